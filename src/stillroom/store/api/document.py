"""OpenAPI metadata that FastAPI cannot derive from types: headers, statuses and examples."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi.params import Depends
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

from stillroom.store import content_type
from stillroom.store.hooks import RequestHeader
from stillroom.wire.shown import ETAG_EXAMPLE

BEARER: Final = Depends(
    HTTPBearer(
        auto_error=False,
        bearerFormat="JWT",
        description="A JSON Web Token. `stillroom token` prints one where the server's data "
        "directory or its `STILLROOM_JWT_SECRET` is; with `STILLROOM_JWT_JWKS_URL` or "
        "`STILLROOM_JWT_PUBLIC_KEY_FILE` the identity provider issues it.",
    )
)
"""Security scheme for the OpenAPI document. It checks nothing: the operations check the tokens."""

Document = dict[str, Any]

_DIGEST: Final = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"

_REQUEST_HEADERS: Final[Mapping[str, tuple[str, str]]] = {
    "If-Match": (
        "The image or resource must have one of these ETags (`*`: it must exist); else 412.",
        ETAG_EXAMPLE,
    ),
    "If-None-Match": (
        (
            "On a read: 304 if the image has one of these ETags. On a save: `*` responds 412 if an "
            "image exists, so that none is replaced."
        ),
        ETAG_EXAMPLE,
    ),
    "Range": ("A single byte range. For several, the whole image is sent.", "bytes=0-1023"),
    "Repr-Digest": ("The SHA-256 that the image must have (RFC 9530); else 422.", _DIGEST),
}

_RESPONSE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Length": "Size in bytes; for HEAD, the size that GET would send.",
    "Content-Range": "Range and total size (RFC 9110).",
    "ETag": "With its quotes, ready for If-Match.",
    "Last-Modified": "Time of the save (RFC 9110).",
    "Link": 'Next page: `<?…>; rel="next"`. Missing on the last page.',
    "Location": "URL of the image.",
    "Repr-Digest": "The SHA-256, if it is known (RFC 9530).",
    "Retry-After": "Delay in seconds.",
    "Stillroom-Error": "The `code` of the error, also in responses without a body (HEAD).",
    "WWW-Authenticate": "`Bearer`; with status 403 also the `scope` that the token lacks.",
}

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}

_STATUS_DESCRIPTIONS: Final = {
    400: "The body is malformed or incomplete.",
    401: "Unauthorized: missing or invalid token.",
    403: "The token does not permit this.",
    404: "Nothing exists under this name.",
    409: "The request conflicts with existing data, such as a folder at the path of a file.",
    410: "The cursor has expired.",
    412: "A precondition failed.",
    413: "The image is larger than allowed.",
    414: "The URL is too long.",
    415: "Not multipart/form-data, or not an image where one is required or decoded.",
    416: "The range lies outside of the image.",
    422: "Validation Error",
    501: "The bucket does not support the condition, or does not list in order.",
    503: "The storage is out of reach; try again after Retry-After seconds.",
    507: "The disk is full.",
}

_ERROR_HEADERS: Final = {
    **dict.fromkeys((401, 403), ("WWW-Authenticate",)),
    416: ("Content-Range",),
    503: ("Retry-After",),
}

_INVALID: Final = {
    "detail": [{"loc": ["path", "path"], "msg": "the path is empty", "type": "invalid_path"}],
    "code": "invalid_path",
}


class Refusal(BaseModel):
    """Body of an error response: message and code."""

    detail: str = Field(examples=["no such image"])
    code: str = Field(description="stable; branch on this", examples=["not_found"])


def error_responses(*statuses: int, has_body: bool = True) -> dict[int | str, Document]:
    """Return OpenAPI metadata for error responses. `has_body` is False for HEAD requests."""
    model = {"model": Refusal} if has_body else {}
    return {
        status: {
            "description": _STATUS_DESCRIPTIONS[status],
            "headers": _headers("Stillroom-Error", *_ERROR_HEADERS.get(status, ())),
            **model,
        }
        for status in statuses
    }


def _headers(*names: str) -> Document:
    return {
        name: {"description": _RESPONSE_HEADERS[name], "schema": {"type": "string"}}
        for name in names
    }


NOT_MODIFIED: Final[dict[int | str, Document]] = {
    304: {"description": "The client's copy is current.", "headers": _headers("ETag")}
}
"""OpenAPI metadata for the 304 response of an operation whose responses have an ETag."""


def image_responses(*statuses: int, has_body: bool = True) -> dict[int | str, Document]:
    """Return OpenAPI metadata for the responses of an operation that sends an image.

    `statuses` are the possible error statuses. `has_body` is False for HEAD requests.
    """
    facts = _headers("Content-Length", "ETag", "Last-Modified", "Repr-Digest")
    errors = {**NOT_MODIFIED, **error_responses(*statuses, has_body=has_body)}
    if not has_body:
        exists = {"description": "It exists. The headers are those of GET.", "headers": facts}
        return {200: exists, **errors}
    content = {"content": dict.fromkeys(content_type.KNOWN, _BINARY)}
    part = {**facts, **_headers("Content-Range")}
    return {
        200: {"description": "The image.", "headers": facts, **content},
        206: {"description": "The range.", "headers": part, **content},
        302: {
            "description": "Redirect to the URL of the image (R2).",
            "headers": _headers("Location"),
        },
        **error_responses(416, has_body=False),
        **errors,
    }


def file_response(media_type: str) -> dict[int | str, Document]:
    """Return OpenAPI metadata for a 200 response with a file that is not an image."""
    # openapi-python-client omits responses with other binary types than octet-stream.
    content = dict.fromkeys((media_type, "application/octet-stream"), _BINARY)
    return {200: {"description": "The file.", "content": content}}


def openapi_extra(
    *request_headers: str | RequestHeader,
    has_body: bool = True,
    is_paged: bool = False,
    example: object = None,
) -> Document:
    """Return OpenAPI metadata for the argument `openapi_extra` of FastAPI. See `Operation`."""
    extra: Document = {"responses": {}}
    if has_body:
        content = {"application/json": {"example": _INVALID}}
        validation_error = error_responses(422, has_body=False)[422]
        extra["responses"]["422"] = {**validation_error, "content": content}
    if is_paged:
        extra["responses"]["200"] = {"headers": _headers("Link")}
        if example is not None:
            extra["responses"]["200"]["content"] = {"application/json": {"example": example}}
    if request_headers:
        extra["parameters"] = [
            _header(*((item, *_REQUEST_HEADERS[item]) if isinstance(item, str) else item))
            for item in request_headers
        ]
    return extra


def _header(name: str, description: str, example: str) -> Document:
    schema = {"type": "string", "examples": [example]}
    head = {"name": name, "in": "header", "required": False}
    return {**head, "description": description, "schema": schema}
