"""HTTP operation that creates signed URLs. `images.py` verifies them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.errors import Forbidden, InvalidPath
from stillroom.paths import ImagePath
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm, validate
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.auth.grants import Authorize, Grant
from stillroom.store.auth.signed_urls import MAX_LIFE_S, UrlSigner
from stillroom.store.http.fields import as_rfc3339
from stillroom.wire.shown import PATH_EXAMPLE
from stillroom.wire.thumbnails import Fit, Format

MAX_PATHS: Final = 1000

_URL_EXAMPLE: Final = (
    f"http://127.0.0.1:8000/api/v1/storage/images/{PATH_EXAMPLE}?expires=1795536000"
    "&kid=6f1d2c3b4a596877&signature=vQ2d8b0TqkM3nJx5LrC7yWz1aEo4hUfS6gPiNtB9RkY"
)

Lifetime = Annotated[
    int, Field(ge=1, le=MAX_LIFE_S, description="Seconds from now; seven days at most.")
]


class Transform(JsonForm):
    """Parameters of a thumbnail, as in `GET /storage/images/{path}`."""

    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    fit: Fit | None = None
    format: Format | None = None
    quality: int | None = Field(default=None, ge=1, le=100)

    @property
    def query(self) -> str:
        """Thumbnail parameters as a query string."""
        return urlencode(self.model_dump(exclude_none=True))


# `max_bytes` is also used for `UrlsToSign`: enough for 1,000 of the longest paths.
class UrlToSign(JsonForm, max_bytes=4 * 1024**2, example='{"path": "…"}'):
    """Request body: image or thumbnail for which a URL is signed."""

    path: str = Field(examples=[PATH_EXAMPLE])
    expires_in: Lifetime = 3600
    transform: Transform = Transform()


class UrlsToSign(JsonForm):
    """Request body: images or thumbnails for which URLs are signed, each with its own result."""

    paths: list[str] = Field(min_length=1, max_length=MAX_PATHS, examples=[[PATH_EXAMPLE]])
    expires_in: Lifetime = 3600
    transform: Transform = Transform()


class SignedImageUrl(BaseModel):
    """URL with which the image can be read without a token until the URL expires."""

    path: str = Field(examples=[PATH_EXAMPLE])
    url: str = Field(examples=[_URL_EXAMPLE])
    expires_at: datetime


class UnsignedPath(BaseModel):
    """Path for which no URL was signed, with the reason."""

    path: str = Field(examples=["../cat.png"])
    detail: str = Field(examples=["a segment is `.` or `..`"])
    code: Literal["invalid_path", "forbidden"]


class SignedImageUrls(BaseModel):
    """Result for each path, in the order of the request body."""

    results: list[SignedImageUrl | UnsignedPath]


@dataclass(frozen=True, slots=True)
class UrlSigning:
    """Operation that signs URLs. A signed URL is `{public_url}/{path}?{signature}`."""

    authorize: Authorize
    signer: UrlSigner
    public_url: str

    @Operation(
        "POST",
        "",
        (401, 403, 413, 415),
        body=UrlToSign | UrlsToSign,
        answer=SignedImageUrl | SignedImageUrls,
    )
    async def sign_urls(self, request: Request) -> Response:
        """Sign URLs that work without a token, as `<img>` requires. The images need not exist."""
        call = await Call.of(request, self.authorize)
        call.grant.require_scope("storage:read")
        body = await call.json_object(UrlToSign)

        content: Mapping[str, object]
        if "paths" in body:
            batch = validate(UrlsToSign, body)
            content = {"results": [self._result(call.grant, path, batch) for path in batch.paths]}
        else:
            form = validate(UrlToSign, body)
            content = self._sign(call.grant, form.path, form)
        return json_answer(content, headers={"cache-control": "no-store"})

    def _sign(self, grant: Grant, path: str, form: UrlToSign | UrlsToSign) -> Mapping[str, str]:
        image_path = ImagePath.parse(path, at=("body", "path"))
        grant.require("storage:read", image_path)
        signed = self.signer.sign(
            image_path, valid_for_s=form.expires_in, parameters=form.transform.query
        )
        return {
            "path": path,
            "url": f"{self.public_url}/{signed.target}",
            "expires_at": as_rfc3339(signed.expires_at * 1_000_000_000),
        }

    def _result(self, grant: Grant, path: str, form: UrlsToSign) -> Mapping[str, str]:
        try:
            return self._sign(grant, path, form)
        except (InvalidPath, Forbidden) as error:
            return {"path": path, "detail": str(error), "code": error.code}
