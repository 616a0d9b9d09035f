"""What the OpenAPI document says beyond signatures: headers, image types, where tokens come from.

Query parameters come from the tables of their parsers, see `routes`; headers are merged into the
document by `openapi_extra`, as FastAPI calls it.
"""

from collections.abc import Mapping
from typing import Any, Final

from fastapi.params import Depends
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

from stillroom.storage import content_type

BEARER: Final = Depends(
    HTTPBearer(
        auto_error=False,
        bearerFormat="JWT",
        description="A JSON Web Token. `stillroom token` prints one where the server's data "
        "directory or its `STILLROOM_JWT_SECRET` is; with `STILLROOM_JWT_JWKS_URL` or "
        "`STILLROOM_JWT_PUBLIC_KEY_FILE` the identity provider issues it.",
    )
)
"""Documents that an operation needs a token; the operation itself checks it."""

Document = dict[str, Any]

PATH_EXAMPLE: Final = "generations/1/cat.png"
FOLDER_EXAMPLE: Final = "generations/1"
ETAG_EXAMPLE: Final = '"18ff3d2b6c1a-133333-2a"'
SHA256_EXAMPLE: Final = "5f8f04f6a3a892aaabbddb6cf273894493773960d4a325b105fee46eef4304f1"
"""In the place of the word "string" that documents show otherwise."""

_DIGEST: Final = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"

_REQUEST_HEADERS: Final[Mapping[str, tuple[str, str]]] = {
    "Expires-In": (
        "How long the image stays: `90s`, `15m`, `12h`, `7d`, or seconds; without it, for good.",
        "7d",
    ),
    "If-Match": (
        "Only if the image or resource has one of these ETags (`*`: if there is one); else 412.",
        ETAG_EXAMPLE,
    ),
    "If-None-Match": (
        (
            "On a read: 304 if the image has one of these ETags. On a save: `*` replaces nothing, "
            "and is 412 where there is an image."
        ),
        ETAG_EXAMPLE,
    ),
    "Range": ("One range of bytes; several are answered in full.", "bytes=0-1023"),
    "Repr-Digest": ("The SHA-256 that the image must have (RFC 9530); else 422.", _DIGEST),
}

_ANSWER_HEADERS: Final[Mapping[str, str]] = {
    "Content-Length": "Bytes; of HEAD those that GET would send.",
    "Content-Range": "Which bytes of how many (RFC 9110).",
    "ETag": "With its quotes, ready for If-Match.",
    "Last-Modified": "When it was saved (RFC 9110).",
    "Link": 'The next page: `<?…>; rel="next"`. Without it this is the last one.',
    "Location": "Where the image is served.",
    "Repr-Digest": "The SHA-256, where it is known (RFC 9530).",
    "Retry-After": "Seconds.",
    "Stillroom-Error": "The `code` of the body, also where there is none (HEAD).",
    "WWW-Authenticate": "`Bearer`.",
}

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}

_WHY: Final = {
    400: "The body is malformed or incomplete.",
    401: "Unauthorized: missing or invalid token.",
    403: "The token does not cover this.",
    404: "There is nothing of this name.",
    409: "It conflicts with what is there, such as a folder where a file should go.",
    412: "A precondition failed.",
    413: "The image is larger than allowed.",
    414: "The URL is too long.",
    415: "Not multipart/form-data, or not an image where one is required or decoded.",
    416: "The range lies outside of the image.",
    422: "Validation Error",
    501: "The bucket cannot hold to such a condition, or lists in no order.",
    503: "The storage is out of reach; try again after Retry-After seconds.",
    507: "The disk is full.",
}

_HEADERS_OF: Final = {401: ("WWW-Authenticate",), 416: ("Content-Range",), 503: ("Retry-After",)}

_INVALID: Final = {
    "detail": [{"loc": ["path", "path"], "msg": "the path is empty", "type": "invalid_path"}],
    "code": "invalid_path",
}


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str = Field(examples=["no such image"])
    code: str = Field(description="stable; branch on this", examples=["not_found"])


def refusals(*statuses: int, has_body: bool = True) -> dict[int | str, Document]:
    """The answers with these statuses; none of HEAD `has_body`."""
    model = {"model": Refusal} if has_body else {}
    return {
        status: {
            "description": _WHY[status],
            "headers": answer_headers("Stillroom-Error", *_HEADERS_OF.get(status, ())),
            **model,
        }
        for status in statuses
    }


def answer_headers(*names: str) -> Document:
    """Headers of an answer, in the form of the document."""
    return {
        name: {"description": _ANSWER_HEADERS[name], "schema": {"type": "string"}} for name in names
    }


def unchanged() -> dict[int | str, Document]:
    """The 304 of an answer with an ETag."""
    return {
        304: {"description": "The client's copy is current.", "headers": answer_headers("ETag")}
    }


def reading(*statuses: int, has_body: bool = True) -> dict[int | str, Document]:
    """The answers of an operation that sends an image, or says what it would send."""
    content = dict.fromkeys(content_type.KNOWN, _BINARY) if has_body else {}
    facts = answer_headers("Content-Length", "ETag", "Last-Modified", "Repr-Digest")
    whole = {"description": "The image." if has_body else "It exists; the headers are GET's."}
    found: dict[int | str, Document] = {200: {**whole, "headers": facts}}
    if has_body:
        found[200]["content"] = content
        part = {**facts, **answer_headers("Content-Range")}
        found[206] = {"description": "The range.", "headers": part, "content": content}
        found[302] = {
            "description": "Where the image is served (R2).",
            "headers": answer_headers("Location"),
        }
        found[416] = refusals(416, has_body=False)[416]
    return {**found, **unchanged(), **refusals(*statuses, has_body=has_body)}


def sending(media_type: str, *statuses: int, has_body: bool = True) -> dict[int | str, Document]:
    """The answers of an operation that sends a file of another type."""
    # openapi-python-client takes no other type for bytes, and leaves the answer out.
    content = dict.fromkeys((media_type, "application/octet-stream"), _BINARY)
    whole = {"description": "The file.", "content": content}
    return {200: whole, **refusals(*statuses, has_body=has_body)}


def extra(
    *request_headers: str, has_body: bool = True, is_paged: bool = False, example: object = None
) -> Document:
    """What FastAPI has no argument for: `openapi_extra` of a route.

    Args:
        request_headers: Which of them the operation honours.
        has_body: False for HEAD, whose 422 is among its `refusals`.
        is_paged: Whether its 200 has a `Link`.
        example: Of its 200.
    """
    found: Document = {"responses": {}}
    if has_body:
        content = {"application/json": {"example": _INVALID}}
        found["responses"]["422"] = {**refusals(422, has_body=False)[422], "content": content}
    if is_paged:
        found["responses"]["200"] = {"headers": answer_headers("Link")}
        if example is not None:
            found["responses"]["200"]["content"] = {"application/json": {"example": example}}
    if request_headers:
        found["parameters"] = [_header(name) for name in request_headers]
    return found


def _header(name: str) -> Document:
    description, example = _REQUEST_HEADERS[name]
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", "examples": [example]},
    }
