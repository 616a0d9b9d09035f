"""Handing out signed URLs: the POST; `images.py` honours them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.api.call import Call
from stillroom.api.document import PATH_EXAMPLE
from stillroom.api.forms import JsonForm, in_form
from stillroom.api.responses import json_answer
from stillroom.api.routes import Operation, OperationRouter
from stillroom.auth.grants import Authorize, Grant
from stillroom.auth.signed_urls import MAX_LIFE_S, UrlSigner
from stillroom.errors import Forbidden, InvalidPath
from stillroom.http.derivation import Fit, Format
from stillroom.http.fields import as_rfc3339
from stillroom.paths import ImagePath

MAX_PATHS: Final = 1000

_URL_EXAMPLE: Final = (
    f"http://127.0.0.1:8000/api/v1/storage/images/{PATH_EXAMPLE}?expires=1795536000"
    "&kid=6f1d2c3b4a596877&signature=vQ2d8b0TqkM3nJx5LrC7yWz1aEo4hUfS6gPiNtB9RkY"
)

Lifetime = Annotated[
    int, Field(ge=1, le=MAX_LIFE_S, description="Seconds from now; seven days at most.")
]


class Transform(JsonForm):
    """The parameters of a GET for a thumbnail; see `GET /storage/images/{path}`."""

    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    fit: Fit | None = None
    format: Format | None = None
    quality: int | None = Field(default=None, ge=1, le=100)

    @property
    def query(self) -> str:
        """As they stand in the URL."""
        return urlencode(self.model_dump(exclude_none=True))


class UrlToSign(JsonForm):
    """One image, or a thumbnail of it."""

    # With the other form: a thousand of the longest paths, most characters escaped, fit.
    MAX_BYTES: ClassVar = 4 * 1024**2
    EXAMPLE: ClassVar = '{"path": "…"}'

    path: str = Field(examples=[PATH_EXAMPLE])
    expires_in: Lifetime = 3600
    transform: Transform = Transform()


class UrlsToSign(JsonForm):
    """Several images, or thumbnails of them; each is answered for itself."""

    paths: list[str] = Field(min_length=1, max_length=MAX_PATHS, examples=[[PATH_EXAMPLE]])
    expires_in: Lifetime = 3600
    transform: Transform = Transform()


class SignedImageUrl(BaseModel):
    """A URL that reads the image without a token, until it expires."""

    path: str = Field(examples=[PATH_EXAMPLE])
    url: str = Field(examples=[_URL_EXAMPLE])
    expires_at: datetime


class UnsignedPath(BaseModel):
    """A path that no URL was signed for, and why."""

    path: str = Field(examples=["../cat.png"])
    detail: str = Field(examples=["a segment is `.` or `..`"])
    code: Literal["invalid_path", "forbidden"]


class SignedImageUrls(BaseModel):
    """What became of each path, in the order asked for."""

    results: list[SignedImageUrl | UnsignedPath]


@dataclass(frozen=True, slots=True)
class UrlSigning:
    """Signing URLs for callers that may read the images.

    Attributes:
        authorize: Who is asking.
        signer: Has the keys.
        public_url: What `/<path>` is put behind to make an image's public URL.
    """

    authorize: Authorize
    signer: UrlSigner
    public_url: str

    async def sign_urls(self, request: Request) -> Response:
        """Sign URLs that need no token, for `<img>`. Nothing is looked up."""
        call = await Call.of(request, self.authorize)
        call.grant.require_scope("storage:read")
        given = await call.json_object(UrlToSign)

        if "paths" in given:
            several = in_form(UrlsToSign, given)
            results = [self._result(call.grant, path, several) for path in several.paths]
            answer: object = {"results": results}
        else:
            one = in_form(UrlToSign, given)
            answer = self._signed(call.grant, one.path, one)
        response = json_answer(answer)
        response.headers["cache-control"] = "no-store"
        return response

    def _signed(self, grant: Grant, path: str, asked: UrlToSign | UrlsToSign) -> Mapping[str, str]:
        try:
            image_path = ImagePath.parse(path)
        except InvalidPath as error:
            raise InvalidPath(str(error), at=("body", "path")) from error
        grant.require("storage:read", image_path)
        signed = self.signer.sign(
            image_path, valid_for_s=asked.expires_in, parameters=asked.transform.query
        )
        return {
            "path": path,
            "url": f"{self.public_url}/{signed.target}",
            "expires_at": as_rfc3339(signed.expires_at * 1_000_000_000),
        }

    def _result(self, grant: Grant, path: str, asked: UrlsToSign) -> Mapping[str, str]:
        try:
            return self._signed(grant, path, asked)
        except (InvalidPath, Forbidden) as error:
            return {"path": path, "detail": str(error), "code": error.code}


def signed_urls_router(signing: UrlSigning) -> OperationRouter:
    """The route of the one operation, `/storage/signed-urls`."""
    router = OperationRouter("/storage/signed-urls", tag="Storage")
    router.add(
        "",
        Operation(
            "POST",
            signing.sign_urls,
            (401, 403, 413, 415),
            body=UrlToSign | UrlsToSign,
            answer=SignedImageUrl | SignedImageUrls,
        ),
    )
    return router
