"""Serving the page: a browser is told what it may load, and how long it may keep it.

The files are plain modules and styles that a browser takes as they are, so nothing is built; only
comments and spaces are left out. They lie below a folder named by their hash and are cached for a
year; the page alone is revalidated each time. docs/adr/0018-a-page-of-plain-modules.md.
"""

import functools
import gzip
import hashlib
import importlib.resources
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stillroom.gallery.minify import minified
from stillroom.http.fields import combined, entity_tags
from stillroom.storage.values import ANY

PAGE: Final = "index.html"

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_FOR_GOOD: Final = "public, max-age=31536000, immutable"
"""What lies below a folder named by its hash never changes (RFC 8246); a year."""

_TAKES_GZIP: Final = re.compile(
    r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[0-9.]+\s*)?(?:,|$)", re.IGNORECASE
)
"""https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3"""

_ASK_EACH_TIME: Final = "no-cache"

_SAFE: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Gallery:
    """The files as they are served.

    Attributes:
        version: Names the folder that they lie below; other files have another one.
        files: By name, without the page itself.
        page: Refers to the files relatively, so that a proxy may put a path in front of all.
        policy: The page's `Content-Security-Policy`.
    """

    version: str
    files: Mapping[str, bytes]
    page: bytes
    policy: str

    @classmethod
    def of_package(
        cls,
        *,
        image_origins: Iterable[str],
        max_upload_bytes: int,
        deletion_grace_s: float,
        files_at: str = "gallery/",
        api_at: str = "api/v1/",
    ) -> Self:
        """The files that are installed with this package.

        Args:
            image_origins: Who serves images beside this server, such as `https://cdn.example.com`.
            max_upload_bytes: What the page refuses before it is sent.
            deletion_grace_s: How long a resource can be brought back, for the page to say so.
            files_at: Where the files are, relative to the page.
            api_at: Where the API is, relative to the page.
        """
        folder = importlib.resources.files(__package__) / "static"
        files = {
            file.name: minified(file.name, file.read_bytes())
            for file in sorted(folder.iterdir(), key=lambda file: file.name)
        }
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(f"{name} {len(content)}\n".encode() + content)
        version = digest.hexdigest()[:16]
        page = files.pop(PAGE)
        page = page.replace(b"{files}", f"{files_at}{version}".encode())
        page = page.replace(b"{api}", api_at.encode())
        page = page.replace(b"{max_upload_bytes}", str(max_upload_bytes).encode())
        page = page.replace(b"{deletion_grace_s}", str(deletion_grace_s).encode())
        return cls(version, files, page, _policy(image_origins))

    async def show(self, request: Request) -> Response:
        """The page."""
        headers = {**_SAFE, "cache-control": _ASK_EACH_TIME, "content-security-policy": self.policy}
        return _answer(request, self.page, PAGE, headers)

    async def send_file(self, request: Request) -> Response:
        """One of the files.

        Raises:
            HTTPException: 404, also for the files of another version.
        """
        name: str = request.path_params["name"]
        if request.path_params["version"] != self.version or name not in self.files:
            raise HTTPException(404)
        return _answer(request, self.files[name], name, {**_SAFE, "cache-control": _FOR_GOOD})


def gallery_router(gallery: Gallery) -> APIRouter:
    """The routes of the page and its files, which need no token: they hold no image and no name."""
    router = APIRouter()
    router.routes.append(Route("/", gallery.show))
    router.routes.append(Route("/gallery/{version}/{name}", gallery.send_file))
    return router


def embedded_gallery_router(gallery: Gallery) -> APIRouter:
    """The same at `/gallery/`, in an app that has a root of its own; its files are beside it."""
    router = APIRouter()
    router.routes.append(Route("/gallery/", gallery.show))
    router.routes.append(Route("/gallery", _add_slash))
    router.routes.append(Route("/gallery/{version}/{name}", gallery.send_file))
    return router


async def _add_slash(_: Request) -> Response:
    """A relative redirect: it needs no Host header, and a proxy may put a path in front."""
    return Response(status_code=307, headers={"location": "gallery/"})


def _policy(image_origins: Iterable[str]) -> str:
    """Scripts and styles come as files from here, and texts become no markup, whatever they hold.

    Sources: https://www.w3.org/TR/CSP3/ and https://www.w3.org/TR/trusted-types/
    """
    origins = tuple(image_origins)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            " ".join(("img-src 'self' blob:", *origins)),
            " ".join(("media-src 'self' blob:", *origins)),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


@functools.lru_cache(maxsize=64)
def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _answer(request: Request, content: bytes, name: str, headers: dict[str, str]) -> Response:
    fields = combined(request.headers.raw)
    packs = _TAKES_GZIP.search(fields.get("accept-encoding", "")) is not None
    if packs:
        content = _packed(content)
        headers = {**headers, "content-encoding": "gzip"}
    # The policy is part of the page: a browser keeps it with the page, and a setting changes it.
    told = headers.get("content-security-policy", "").encode()
    etag = f'"{hashlib.sha256(told + content).hexdigest()[:32]}"'
    headers = {**headers, "etag": etag, "vary": "accept-encoding"}
    known = entity_tags(fields.get("if-none-match"), weak=True)
    if known is not None and (known == ANY or etag in known):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = _TYPES[name.rpartition(".")[2]]
    return Response(content, headers=headers)
