"""HTTP operation that creates signed URLs, and the request header `Sign-Url` for saves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.errors import FeatureOff, Forbidden, InvalidInput, InvalidPath
from stillroom.paths import ImagePath
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm, validate
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.auth.grants import Authorize, Grant
from stillroom.store.auth.signed_urls import ARCHIVE, MAX_LIFE_S, SignedUrl, UrlSigner
from stillroom.store.hooks import RequestHeader, SelectArchive
from stillroom.store.http.fields import as_rfc3339
from stillroom.wire.shown import FOLDER_EXAMPLE, PATH_EXAMPLE, SIGNED_URL_EXAMPLE
from stillroom.wire.thumbnails import Fit, Format

MAX_PATHS: Final = 1000

SIGN_URL: Final = RequestHeader(
    "Sign-Url",
    "Adds a signed URL to the response, valid for `90s`, `15m`, `12h`, `7d` at most, or seconds. "
    "Requires `storage:read`.",
    "1h",
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


# `max_bytes` also limits the other request bodies: it is enough for 1,000 of the longest paths.
class UrlToSign(JsonForm, max_bytes=4 * 1024**2, example='{"path": "…"}'):
    """Request body: image or thumbnail for which a URL is signed."""

    path: str = Field(examples=[PATH_EXAMPLE])
    expires_in: Lifetime = 3600
    transform: Transform = Transform()


class UrlsToSign(JsonForm):
    """Request body: paths of images. One URL is signed for each image, or for its thumbnail."""

    paths: list[str] = Field(min_length=1, max_length=MAX_PATHS, examples=[[PATH_EXAMPLE]])
    expires_in: Lifetime = 3600
    transform: Transform = Transform()


class ArchiveContent(JsonForm):
    """Content of a ZIP file: all images with a prefix, or the images with these paths."""

    prefix: str | None = Field(default=None, examples=[f"{FOLDER_EXAMPLE}/"])
    paths: list[str] = Field(default=[], max_length=MAX_PATHS, examples=[[PATH_EXAMPLE]])
    sidecars: Literal["captions"] | None = None


class ArchiveToSign(JsonForm):
    """Request body: ZIP file of images, or of a published run, for which a URL is signed."""

    archive: ArchiveContent | None = None
    run: str | None = Field(default=None, examples=[FOLDER_EXAMPLE])
    expires_in: Lifetime = 3600


class SignedArchive(BaseModel):
    """URL with which a ZIP file can be downloaded without a token until the URL expires."""

    url: str = Field(examples=[SIGNED_URL_EXAMPLE.replace("images/", "archive?run=")])
    expires_at: datetime


class SignedImageUrl(BaseModel):
    """URL with which the image can be read without a token until the URL expires."""

    path: str = Field(examples=[PATH_EXAMPLE])
    url: str = Field(examples=[SIGNED_URL_EXAMPLE])
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
    """Operation that signs URLs."""

    authorize: Authorize
    signer: UrlSigner
    public_url: str  # base URL of images
    api_url: str  # base URL of the API, for ZIP files
    archive: SelectArchive | None = None

    @Operation(
        "POST",
        "",
        (404, 409, 501, 503),
        body=UrlToSign | UrlsToSign | ArchiveToSign,
        answer=SignedImageUrl | SignedImageUrls | SignedArchive,
    )
    async def sign_urls(self, request: Request) -> Response:
        """Sign URLs that work without a token, as `<img>` requires. The images need not exist.

        A ZIP file contains the images that exist when its URL is opened.
        """
        call = await Call.of(request, self.authorize)
        call.grant.require_scope("storage:read")
        body = await call.json_object(UrlToSign)

        content: Mapping[str, object]
        if "archive" in body or "run" in body:
            content = await self._sign_archive(call.grant, validate(ArchiveToSign, body))
        elif "paths" in body:
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
        return {"path": path, **_shown(signed, self.public_url)}

    async def _sign_archive(self, grant: Grant, form: ArchiveToSign) -> Mapping[str, str]:
        if self.archive is None:
            raise FeatureOff("this server runs without the feature 'archive'")
        content = form.archive or ArchiveContent()
        texts = {"prefix": content.prefix, "run": form.run, "sidecars": content.sidecars}
        query = {name: [text] for name, text in texts.items() if text is not None}
        try:
            parameters = await self.archive(grant, query | {"path": content.paths})
        except InvalidInput as error:
            error.at = ("body", "archive" if form.run is None else "run")
            raise
        signed = self.signer.sign(
            ARCHIVE, valid_for_s=form.expires_in, parameters=parameters, purpose=ARCHIVE.text
        )
        return _shown(signed, f"{self.api_url}/storage")

    def _result(self, grant: Grant, path: str, form: UrlsToSign) -> Mapping[str, str]:
        try:
            return self._sign(grant, path, form)
        except (InvalidPath, Forbidden) as error:
            return {"path": path, "detail": str(error), "code": error.code}


def _shown(signed: SignedUrl, base: str) -> Mapping[str, str]:
    expires_at = as_rfc3339(signed.expires_at * 10**9)
    return {"url": f"{base}/{signed.target}", "expires_at": expires_at}
