"""HTTP operations for upload grants: issue a grant, upload its file, and complete it."""

import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.errors import InvalidParameter
from stillroom.features.grants.grant import Upload, UploadGrant
from stillroom.features.grants.service import Grants
from stillroom.paths import ImagePath
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm, read_json, validate
from stillroom.store.api.images import SavedImage
from stillroom.store.api.operation import IMAGE_PATH, raw_image_path
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.api.signed_urls import Lifetime
from stillroom.store.api.views import view_of
from stillroom.store.content_type import KNOWN
from stillroom.store.http.fields import as_rfc3339, combined
from stillroom.wire import uploads as wire
from stillroom.wire.shown import PATH_EXAMPLE, SHA256_EXAMPLE

_NO_STORE: Final = {"cache-control": "no-store"}


class GrantToIssue(JsonForm, max_bytes=16 * 1024, example='{"path": "…", "size": …}'):
    """Request body: terms of one upload."""

    path: str = Field(examples=[PATH_EXAMPLE])
    size: int = Field(ge=1, description="Exact size in bytes.", examples=[734_003_200])
    content_type: str | None = Field(
        default=None,
        description="Content type that the file must have. It is detected from the content.",
        examples=["video/mp4"],
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="Hexadecimal SHA-256 of the file.",
        examples=[SHA256_EXAMPLE],
    )
    if_none_match: Literal["*"] | None = Field(
        default=None, description="`*`: complete the grant only if no image exists."
    )
    expires_in: Lifetime = 3600
    expires_after: str | None = Field(
        default=None, description="Lifetime of the image, as in `Expires-In`.", examples=["7d"]
    )


class GrantToComplete(JsonForm, max_bytes=16 * 1024, example='{"grant": "…"}'):
    """Request body: grant whose file was uploaded."""

    grant: Annotated[str, Field(max_length=12_000, examples=["0f8e…?path=…&signature=…"])]


@view_of(wire.UploadGrant)
class IssuedGrant(BaseModel):
    """Permission to upload one file without a token."""


class ReceivedFile(BaseModel):
    """Size and SHA-256 of the uploaded file."""

    size: int
    sha256: str | None = Field(examples=[SHA256_EXAMPLE])


@dataclass(frozen=True, slots=True)
class GrantOperations:
    """Operations for upload grants."""

    grants: Grants

    @Operation("POST", "", (501, 503), body=GrantToIssue, answer=IssuedGrant)
    async def grant_upload(self, request: Request) -> Response:
        """Grant one upload of a file. This upload then needs no token."""
        call = await Call.of(request, self.grants.images.authorize)
        call.grant.require_scope("storage:write")
        form = await call.json(GrantToIssue)
        call.grant.require("storage:write", ImagePath.parse(form.path, at=("body", "path")))
        grant = _grant_of(form, call.grant.subject)
        try:
            if fields := grant.save_fields:
                await self.grants.images.hooks.prepare_save(fields)
        except InvalidParameter as error:
            raise InvalidParameter(str(error), at=("body", "expires_after")) from error
        grant, url, headers = await self.grants.issue(grant, form.expires_in)
        issued = {
            "method": "PUT",
            "url": url,
            "headers": headers,
            "grant": grant.signed(self.grants.signer),
            "expires_at": as_rfc3339(grant.expires_at * 10**9),
        }
        return json_answer(issued, headers=_NO_STORE)

    @Operation(
        "POST",
        "/complete",
        (409, 412, 501, 503, 507),
        body=GrantToComplete,
        answer=SavedImage,
        needs_token=False,
    )
    async def complete_upload(self, request: Request) -> Response:
        """Save the uploaded file as an image. The grant is the permission: no token is needed."""
        body = await read_json(request, combined(request.headers.raw), GrantToComplete)
        text = validate(GrantToComplete, body).grant.encode(errors="surrogatepass")
        name, _, query = text.partition(b"?")
        saved = await self.grants.complete(UploadGrant.open(self.grants.signer, name, query))
        if self.grants.images.on_save is not None:
            self.grants.images.on_save(request)
        return json_answer(saved, headers=_NO_STORE)

    @Operation(
        "PUT",
        IMAGE_PATH,
        (400, 412, 413, 503, 507),
        body=bytes,
        answer=ReceivedFile,
        needs_token=False,
    )
    async def upload_file(self, request: Request) -> Response:
        """Upload a grant's file to its signed URL. Uploads to a bucket use the bucket's own URL."""
        query = request.scope["query_string"]
        upload = Upload.open(self.grants.signer, raw_image_path(request), query)
        fields = combined(request.headers.raw)
        image = await self.grants.receive(upload, fields, request.stream())
        return json_answer({"size": image.size, "sha256": image.sha256 and image.sha256.hex()})


def _grant_of(form: GrantToIssue, subject: str | None) -> UploadGrant:
    if form.content_type is not None and form.content_type not in KNOWN:
        raise InvalidParameter(
            f"must be a type that can be detected from the content ({', '.join(KNOWN)}), or left "
            "out, so that any content is accepted",
            at=("body", "content_type"),
        )
    return UploadGrant(
        id=secrets.token_hex(16),
        expires_at=int(time.time()) + form.expires_in,
        create_only=form.if_none_match is not None,
        subject=subject,
        **form.model_dump(exclude={"expires_in", "if_none_match"}),
    )
