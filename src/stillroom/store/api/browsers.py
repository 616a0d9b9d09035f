"""Page `/docs`, and the security headers for responses without a Content-Security-Policy."""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stillroom.store.http.problems import DATA_HEADERS

_STATIC: Final = "/static-offline-docs"  # path at which fastapi-offline serves Swagger UI
_INLINE_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_DATA_HEADERS: Final = [(name.encode(), value.encode()) for name, value in DATA_HEADERS]


@dataclass(frozen=True, slots=True)
class DefaultSecurityHeaders:
    """ASGI middleware that forbids scripts and frames in responses without a security policy.

    The gallery stores its token in the browser, where any script from this server could read it.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and add the headers to its response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                names = {name for name, _ in headers}
                if b"content-type" in names and b"content-security-policy" not in names:
                    missing = [field for field in _DATA_HEADERS if field[0] not in names]
                    message = {**message, "headers": [*headers, *missing]}
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def document_router(app: FastAPI) -> APIRouter:
    """Return a router for `/docs`: Swagger UI, which loads scripts only from this server."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{root}{_STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_STATIC}/favicon.png",
        )
        page.headers["content-security-policy"] = _policy(bytes(page.body))
        page.headers["x-content-type-options"] = "nosniff"
        return page

    return router


def _policy(page: bytes) -> str:
    hashes = (hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page))
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src 'self' {scripts}; "
        "style-src 'self' 'unsafe-inline'; "  # Swagger UI sets styles of elements
        "img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
