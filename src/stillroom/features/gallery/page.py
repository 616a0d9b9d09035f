"""Routes that serve the gallery's page and files, with their security and caching headers.

The files are plain JavaScript modules and style sheets, which are served unchanged. Their URLs
contain a hash of all files, so that browsers can cache them for a year. Only the page is
revalidated each time. See docs/adr/0018-the-gallery-is-plain-modules.md.
"""

import functools
import gzip
import hashlib
import importlib.resources
import re
from collections.abc import Iterable, Mapping
from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stillroom.store.http.fields import combined, entity_tags
from stillroom.store.values import ANY

PAGE: Final = "index.html"
_SCRIPT: Final = "theme.js"  # the only file of JavaScript that is not a module

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

# `Cache-Control` for files and for the page. A changed file has a new URL (RFC 8246: immutable).
_FOR_GOOD: Final = "public, max-age=31536000, immutable"
_ASK_EACH_TIME: Final = "no-cache"

# `Accept-Encoding` that allows gzip: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
_TAKES_GZIP: Final = re.compile(
    r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[0-9.]+\s*)?(?:,|$)", re.IGNORECASE
)

_SAFE: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Gallery:
    """Page and files of the gallery, which are installed with this package.

    Attributes:
        files: Content of each file by name, without the page.
        page: HTML of the page. It has relative URLs, so that a proxy can add a path prefix.
    """

    def __init__(
        self,
        values: Mapping[str, object],
        *,
        image_origins: Iterable[str],
        upload_origins: Iterable[str],
    ) -> None:
        """Read the page and files.

        `values` replace placeholders in the page, such as `{api}`. The page may load images from
        `image_origins`, such as `https://cdn.example.com`, and upload files to `upload_origins`.
        """
        folder = importlib.resources.files(__package__) / "static"
        names = sorted(file.name for file in folder.iterdir())
        self.files = {name: (folder / name).read_bytes() for name in names}
        parts = [f"{name} {len(data)}\n".encode() + data for name, data in self.files.items()]
        self._version = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
        self.page = self.files.pop(PAGE)
        files = f"{values['files']}{self._version}"
        modules = [f"{files}/{name}" for name in names if name.endswith(".js") and name != _SCRIPT]
        preloads = "\n".join(f'<link rel="modulepreload" href="{url}">' for url in modules)
        for name, value in {**values, "files": files, "preloads": preloads}.items():
            self.page = self.page.replace(b"{%b}" % name.encode(), str(value).encode())
        self._policy = _policy(image_origins, upload_origins)

    async def show(self, request: Request) -> Response:
        """Respond with the page."""
        headers = {"cache-control": _ASK_EACH_TIME, "content-security-policy": self._policy}
        return _answer(request, self.page, PAGE, {**_SAFE, **headers})

    async def send_file(self, request: Request) -> Response:
        """Respond with a file. Respond with 404 if the URL contains the hash of another version."""
        name: str = request.path_params["name"]
        if request.path_params["version"] != self._version or name not in self.files:
            raise HTTPException(404)
        return _answer(request, self.files[name], name, {**_SAFE, "cache-control": _FOR_GOOD})


def gallery_router(gallery: Gallery, *, is_embedded: bool = False) -> APIRouter:
    """Return a router for the files and the page (at `/gallery/` if `is_embedded`, else at `/`)."""
    pages = [Route("/", gallery.show)]
    if is_embedded:
        pages = [Route("/gallery/", gallery.show), Route("/gallery", _add_slash)]
    return APIRouter(routes=[*pages, Route("/gallery/{version}/{name}", gallery.send_file)])


async def _add_slash(_: Request) -> Response:
    """Redirect to `gallery/`. The URL is relative, so that it works behind any proxy."""
    return Response(status_code=307, headers={"location": "gallery/"})


def _policy(image_origins: Iterable[str], upload_origins: Iterable[str]) -> str:
    """Return the Content-Security-Policy, which forbids inline scripts and HTML made from strings.

    Sources: https://www.w3.org/TR/CSP3/ and https://www.w3.org/TR/trusted-types/
    """
    uploads = " ".join(("'self'", *upload_origins))
    images = " ".join(("'self' blob:", *image_origins))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"connect-src {uploads}; img-src {images}; media-src {images}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


@functools.lru_cache(maxsize=64)
def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _answer(request: Request, content: bytes, name: str, headers: dict[str, str]) -> Response:
    fields = combined(request.headers.raw)
    if _TAKES_GZIP.search(fields.get("accept-encoding", "")):
        content = _packed(content)
        headers = {**headers, "content-encoding": "gzip"}
    # Browsers cache the policy with the page, so the ETag must change if the policy does.
    policy = headers.get("content-security-policy", "").encode()
    etag = f'"{hashlib.sha256(policy + content).hexdigest()[:32]}"'
    headers = {**headers, "etag": etag, "vary": "accept-encoding"}
    known = entity_tags(fields.get("if-none-match"), weak=True)
    if known is not None and (known == ANY or etag in known):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = _TYPES[name.rpartition(".")[2]]
    return Response(content, headers=headers)
