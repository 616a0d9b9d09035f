"""HTTP operations on images: list, read, check, save and delete."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fastapi import Request, Response, UploadFile
from pydantic import BaseModel, Field

from stillroom.errors import BackendUnavailable, StillroomError, TooLarge
from stillroom.paths import ImagePath, StorageKey, image_entry
from stillroom.store.api.call import Call, authenticate
from stillroom.store.api.listing import Listing
from stillroom.store.api.operation import IMAGE_PATH, raw_image_path
from stillroom.store.api.responses import ImageResponse, image_response, json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.api.signed_urls import SIGN_URL
from stillroom.store.api.views import view_of
from stillroom.store.auth.grants import Authorize, Grant
from stillroom.store.auth.signed_urls import MAX_LIFE_S, READER, UrlSigner, is_signed
from stillroom.store.auth.verified import CACHE_S, Verified, VerifiedTokens
from stillroom.store.causes import note_actor
from stillroom.store.hooks import NO_HOOKS, Delete, Finish, Hooks
from stillroom.store.http import serving
from stillroom.store.http.fields import Fields, announced_sha256, as_rfc3339, combined, lifetime
from stillroom.store.http.multipart import FRAMING_BYTES, FilePart, boundary_of
from stillroom.store.http.parameters import DeleteParameters
from stillroom.store.http.query import ListParameters
from stillroom.store.port import ImageStorage
from stillroom.store.values import (
    UNCONDITIONAL,
    Condition,
    Location,
    OpenedImage,
    RemoteImage,
    StoredImage,
)
from stillroom.wire import images as wire
from stillroom.wire.shown import ID_EXAMPLE, PATH_EXAMPLE

_MAX_LIFE: Final = timedelta(seconds=MAX_LIFE_S)


@view_of(wire.SavedImage, optional=("expires_at", "signed_url", "signed_url_expires_at"))
class SavedImage(BaseModel):
    """Saved image with its URL."""


class DeletedImage(BaseModel):
    """Path of a deleted image, with its id in the trash if it was moved there."""

    path: str = Field(examples=[PATH_EXAMPLE])
    trash_id: str | None = Field(
        None, description="missing if the image was deleted for good", examples=[ID_EXAMPLE]
    )


@dataclass(frozen=True, slots=True)
class ImageOperations:
    """Operations on stored images."""

    storage: ImageStorage
    authorize: Authorize
    public_url: str  # base URL of images. The URL of an image is `{public_url}/{path}`.
    max_upload_bytes: int
    signer: UrlSigner | None = None
    signed_url: str = ""  # base URL of signed URLs, as `public_url`
    public_read: bool = False  # True if images can be read without a token
    redirects: bool = True  # False if the server itself sends images that are in a bucket
    on_save: Callable[[Request], None] | None = None  # called after a save through ASGI
    hooks: Hooks = NO_HOOKS

    @Operation(
        "GET",
        "",
        (501, 503),
        answer=list[str],
        query=ListParameters,
        is_paged=True,
        example=["cats/tom.png", PATH_EXAMPLE],
    )
    async def list_images(self, request: Request) -> Response:
        """List stored images."""
        listing = Listing.of(await Call.of(request, self.authorize))
        if listing.is_above_folder:
            return json_answer(await listing.visible_folder(self.storage))
        page = await self.storage.list(listing.query)
        entries = [image_entry(entry) for entry in page.entries]
        link = {"link": listing.link_after(entries[-1])} if page.more else {}
        return json_answer(entries, headers=link)

    async def authorize_read(self, fields: Fields, raw_path: bytes, query: bytes) -> Grant:
        """Return the permission to read images that a token or, without one, a signed URL grants.

        If images are public, a request needs neither. An invalid token or signature is still an
        error, as with S3 and Google Cloud Storage
        (https://cloud.google.com/storage/docs/troubleshooting, "requests to a public bucket").
        """
        if "authorization" not in fields and self.signer is not None and is_signed(query):
            grant = self.signer.check(raw_path, query)
        elif "authorization" in fields or not self.public_read:
            grant = await authenticate(self.authorize, fields)
        else:
            grant = READER
        return READER if self.public_read else grant

    def authorize_read_now(self, fields: Fields, tokens: VerifiedTokens) -> Verified | None:
        """Return the result of `authorize_read` from a cache, or None if it is not cached."""
        if "authorization" in fields or not self.public_read:
            verified = tokens.verify_now(fields.get("authorization"))
        else:
            verified = Verified(READER, time.time() + CACHE_S)
        if verified is not None and self.public_read:
            return Verified(READER, verified.until)
        return verified if verified and "storage:read" in verified.grant.scopes else None

    @property
    def cache_control(self) -> str:
        """`Cache-Control` header of responses with images."""
        return serving.PUBLIC_CACHE if self.public_read else serving.PRIVATE_CACHE

    async def _check_read(self, request: Request) -> tuple[Call, StorageKey, Response | None]:
        fields = combined(request.headers.raw)
        raw_path, query = raw_image_path(request), request.scope["query_string"]
        call = Call(request, fields, await self.authorize_read(fields, raw_path, query))
        key = StorageKey.of_image(call.image_path("storage:read"))
        for hook in self.hooks.read:
            if (response := await hook.respond(call, key, self)) is not None:
                return call, key, response
        return call, key, None

    @Operation(
        "GET",
        IMAGE_PATH,
        (404, 412, 415, 503),
        headers=("If-Match", "If-None-Match", "Range"),
        hooks="read",
    )
    async def get_image(self, request: Request) -> Response:
        """Get image by path. Redirects to CDN when using R2 storage."""
        call, key, response = await self._check_read(request)
        if response is not None:
            return response
        location: Location | OpenedImage
        location = await (self.storage.locate(key) if self.redirects else self.storage.open(key))
        if isinstance(location, RemoteImage):
            return ImageResponse(serving.answer_redirect(location))
        return await image_response(call.fields, location, self.cache_control, self.hooks.body)

    @Operation(
        "POST",
        IMAGE_PATH,
        (400, 409, 412, 413, 415, 501, 503, 507),
        body=UploadFile,
        answer=SavedImage,
        headers=("If-Match", "If-None-Match", "Repr-Digest", SIGN_URL),
        hooks="save",
    )
    async def save_image(self, request: Request) -> Response:
        """Save image to storage."""
        call = await Call.of(request, self.authorize)
        image_path = call.image_path("storage:write")
        # The body is read as a stream: FastAPI's form parser would first write it to disk.
        saved = await self.store(call.grant, image_path, call.fields, request.stream())
        if self.on_save is not None:
            self.on_save(request)
        return json_answer(saved)

    @Operation(
        "DELETE",
        IMAGE_PATH,
        (404, 412, 503),
        answer=DeletedImage,
        query=DeleteParameters,
        headers=("If-Match",),
    )
    async def delete_image(self, request: Request) -> Response:
        """Delete image from storage."""
        call = await Call.of(request, self.authorize)
        image_path = call.image_path("storage:delete")
        condition = serving.write_condition(call.fields)
        purge = call.query(DeleteParameters).purge

        with serving.explain_failure(condition):
            members = await self.delete(StorageKey.of_image(image_path), condition, purge=purge)
        return json_answer({"path": image_path.text, **members})

    async def delete(
        self, key: StorageKey, condition: Condition = UNCONDITIONAL, *, purge: bool = False
    ) -> Mapping[str, object]:
        """Delete an image. Return additional response fields: the image's id in the trash, if any.

        The caller has checked the permission. With `purge`, the image is not moved to the trash.
        """
        delete: Delete = self.storage.delete
        if self.hooks.trash is not None and not purge:
            delete = self.hooks.trash
        return await delete(key, condition) or {}

    async def store(
        self, grant: Grant, image_path: ImagePath, fields: Fields, body: AsyncIterator[bytes]
    ) -> dict[str, object]:
        """Check an upload, then read and save the image. Return the fields of `SavedImage`.

        The caller has checked the token and the path.
        """
        grant.require("storage:write", image_path)
        note_actor(grant.subject)  # the fast path does not call `authenticate`
        if "sign-url" in fields:
            grant.require("storage:read", image_path)
        sign_for = lifetime(fields, "sign-url", _MAX_LIFE, "seven days")
        length = int(fields["content-length"]) if "content-length" in fields else None
        if length is not None and length > self.max_upload_bytes + FRAMING_BYTES:
            raise TooLarge(f"the image is larger than {self.max_upload_bytes} bytes")
        boundary = boundary_of(fields)
        # Unlike in RFC 9530, this is the hash of the image, not of the multipart body.
        sha256 = announced_sha256(fields.get("repr-digest"))
        upload = FilePart(body, boundary, max_bytes=length, expected_sha256=sha256)
        condition = serving.write_condition(fields)
        finishes: Sequence[Finish] = ()
        if not self.hooks.save_fields.isdisjoint(fields):
            finishes = await self.hooks.prepare_save(fields)

        with serving.explain_failure(condition):
            image = await self.storage.save(StorageKey.of_image(image_path), upload, condition)
        saved = self.saved_json(image, image_path)
        try:
            for finish in finishes:
                saved |= await finish(image)
        except BackendUnavailable:
            with contextlib.suppress(StillroomError):
                await self.storage.delete(image.key, save_id=image.save_id)
            raise
        if sign_for is not None and self.signer is not None:
            signed = self.signer.sign(image_path, valid_for_s=int(sign_for.total_seconds()))
            saved["signed_url"] = f"{self.signed_url}/{signed.target}"
            saved["signed_url_expires_at"] = as_rfc3339(signed.expires_at * 10**9)
        return saved

    def saved_json(self, image: StoredImage, path: ImagePath) -> dict[str, object]:
        """Return the fields of `SavedImage`, except those that hooks and signed URLs add."""
        return {
            "path": path.text,
            "url": f"{self.public_url}/{path.quoted()}",
            "size": image.size,
            "content_type": image.content_type,
            "sha256": image.sha256.hex() if image.sha256 else None,
            "etag": image.etag,
        }

    @Operation(
        "HEAD",
        IMAGE_PATH,
        (404, 412, 415, 503),
        headers=("If-Match", "If-None-Match"),
        hooks="read",
    )
    async def check_image_exists(self, request: Request) -> Response:
        """Check if image exists."""
        call, key, response = await self._check_read(request)
        if response is not None:
            return response
        image, cache = await self.storage.stat(key), self.cache_control
        return ImageResponse(serving.answer_image("HEAD", call.fields, image, cache_control=cache))
