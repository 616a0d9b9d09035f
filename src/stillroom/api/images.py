"""The five operations, in the order of the document that they come from.

An operation reads top to bottom: who asks, for which path, are they allowed,
what does the storage say, how does HTTP put it. See `call` for the order of the checks.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import Request, Response, UploadFile
from pydantic import BaseModel, Field

from stillroom.api.call import Call, authenticate
from stillroom.api.document import ETAG_EXAMPLE, PATH_EXAMPLE, SHA256_EXAMPLE
from stillroom.api.listing import Listing
from stillroom.api.operation import IMAGE_PATH, raw_image_path
from stillroom.api.responses import ImageResponse, json_answer
from stillroom.api.routes import Operation, OperationRouter
from stillroom.api.sendfile import ProxySendfile, answered
from stillroom.auth.grants import Authorize, Grant
from stillroom.auth.signed_urls import READER, UrlSigner, is_signed
from stillroom.auth.verified import REMEMBERED_S, Verified, VerifiedTokens
from stillroom.derived.images import DerivedImages
from stillroom.errors import ImageNotFound, InvalidPath, TooLarge, UnsupportedMedia
from stillroom.http.derivation import DERIVATION_QUERY, Derivation, parse_derivation
from stillroom.http.fields import Fields, combined, lifetime
from stillroom.http.multipart import FRAMING_BYTES, FilePart, boundary_of
from stillroom.http.query import LIST_QUERY
from stillroom.http.serving import (
    PRIVATE_CACHE,
    PUBLIC_CACHE,
    answer_image,
    answer_made_elsewhere,
    answer_redirect,
    explained,
    is_named,
    request_sha256,
    write_condition,
)
from stillroom.media.lifetimes import Lifetimes
from stillroom.paths import POSTER_SUFFIX, ImagePath, StorageKey, image_entry, poster_of
from stillroom.storage.content_type import DEFAULT, is_video
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import Location, OpenedImage, RemoteImage, StoredImage


class SavedImage(BaseModel):
    """What was stored, and where to find it."""

    path: str = Field(examples=[PATH_EXAMPLE])
    url: str = Field(examples=[f"http://127.0.0.1:8000/api/v1/storage/images/{PATH_EXAMPLE}"])
    size: int = Field(description="bytes", examples=[1_258_291])
    content_type: str = Field(examples=["image/png"])
    sha256: str | None = Field(description="hexadecimal", examples=[SHA256_EXAMPLE])
    etag: str = Field(description="with its quotes, ready for If-Match", examples=[ETAG_EXAMPLE])
    expires_at: datetime | None = Field(
        default=None,
        description="when it goes, if Expires-In said so",
        examples=["2026-12-01T15:00:00+00:00"],
    )


class DeletedImage(BaseModel):
    """What was removed."""

    path: str = Field(examples=[PATH_EXAMPLE])


@dataclass(frozen=True, slots=True)
class ImageOperations:
    """The five operations over one storage.

    Attributes:
        storage: Where the bytes are.
        authorize: Who is asking.
        public_url: What `/<path>` is put behind to make an image's public URL.
        max_upload_bytes: Larger images are refused as soon as that is known.
        lifetimes: Gives saves an end.
        signer: Checks signed URLs; None where there are none.
        public_read: Whether an image can be read without a token by its path.
        derived: Makes thumbnails; None where there are none, whatever is asked for.
        redirects: Whether a bucket's image is answered with its URL, or with its bytes.
        on_save: Hears of each save, on the ASGI path.
        sendfile: Lets a proxy send large images; None where none may.
    """

    storage: ImageStorage
    authorize: Authorize
    public_url: str
    max_upload_bytes: int
    lifetimes: Lifetimes
    signer: UrlSigner | None = None
    public_read: bool = False
    derived: DerivedImages | None = None
    redirects: bool = True
    on_save: Callable[[Request], None] | None = None
    sendfile: ProxySendfile | None = None

    async def list_images(self, request: Request) -> Response:
        """List stored images."""
        listing = Listing.of(await Call.of(request, self.authorize))
        if listing.is_above_folder:
            return json_answer(await listing.way_to_folder(self.storage))
        page = await self.storage.list(listing.query)
        entries = [image_entry(entry) for entry in page.entries]
        response = json_answer(entries)
        if page.more:
            response.headers["link"] = listing.asked.link_to_next(entries[-1])
        return response

    # Both request paths call these two: who may GET and HEAD, and what caches may do with it.

    async def reader(self, fields: Fields, raw_path: bytes, query: bytes) -> Grant:
        """Who may read an image: the holder of a token or a signature, or all.

        A token decides alone: so a signature never adds to what its holder may do. Where
        images are public, no right is missing; but who shows a token or a signature means it,
        and is told if it is not valid, as by S3 and Google Cloud Storage
        (https://cloud.google.com/storage/docs/troubleshooting, "requests to a public bucket").

        Args:
            fields: Of the request.
            raw_path: Of the request target, behind the route's prefix, never decoded.
            query: As it came.

        Raises:
            Unauthenticated: for every reason the same, but for `TokenExpired`.
        """
        if "authorization" not in fields and self.signer is not None and is_signed(query):
            grant = self.signer.check(raw_path, query)
        elif "authorization" in fields or not self.public_read:
            grant = await authenticate(self.authorize, fields)
        else:
            grant = READER
        return READER if self.public_read else grant

    def known_reader(self, fields: Fields, tokens: VerifiedTokens) -> Verified | None:
        """As `reader` decides without a query, where that takes no work; None: ask `reader`."""
        if "authorization" in fields or not self.public_read:
            known = tokens.known(fields.get("authorization"))
        else:
            known = Verified(READER, time.time() + REMEMBERED_S)
        return known and (Verified(READER, known.until) if self.public_read else known)

    @property
    def cache_control(self) -> str:
        """What an answer with an image, or about one, tells caches."""
        return PUBLIC_CACHE if self.public_read else PRIVATE_CACHE

    async def _reading(self, request: Request) -> tuple[Call, StorageKey]:
        """A GET or HEAD of an image that its sender may read."""
        fields = combined(request.headers.raw)
        grant = await self.reader(fields, raw_image_path(request), request.scope["query_string"])
        call = Call(request, fields, grant)
        return call, StorageKey.of_image(call.image_path("storage:read"))

    async def get_image(self, request: Request) -> Response:
        """Get image by path. Redirects to CDN when using R2 storage."""
        call, key = await self._reading(request)
        fields = call.fields
        if self.derived is not None:
            wanted = parse_derivation(call.query)
            if wanted is not None:
                return await self._derived("GET", fields, key, self.derived, wanted)
        location: Location | OpenedImage
        location = await (self.storage.locate(key) if self.redirects else self.storage.open(key))
        if isinstance(location, RemoteImage):
            return ImageResponse(answer_redirect(location))
        return await answered(fields, location, self.cache_control, self.sendfile)

    async def check_image_exists(self, request: Request) -> Response:
        """Check if image exists."""
        call, key = await self._reading(request)
        fields = call.fields
        if self.derived is not None:
            wanted = parse_derivation(call.query)
            if wanted is not None:
                return await self._derived("HEAD", fields, key, self.derived, wanted)
        image = await self.storage.stat(key)
        return ImageResponse(answer_image("HEAD", fields, image, cache_control=self.cache_control))

    async def _derived(
        self,
        method: str,
        fields: Fields,
        key: StorageKey,
        derived: DerivedImages,
        wanted: Derivation,
    ) -> Response:
        """A thumbnail of the image, made here or by the CDN; of a video, of its poster."""
        place = derived.place(key, wanted)
        if place is not None:
            # Looked at for the 404, too, since a CDN would remember its own.
            kind = await self._type_of(method, key)
            frame = derived.place_of_frame(key, wanted) if is_video(kind) else None
            return _elsewhere(method, frame or place)
        original = await self.storage.open(key)
        if is_video(original.image.content_type):
            original.close()
            frame = derived.place_of_frame(key, wanted)
            if frame is not None:
                return _elsewhere(method, frame)
            original = await self._poster(key)
        picture: OpenedImage | None = None
        try:
            facts = await derived.describe(original, wanted)
        except BaseException:
            original.close()
            raise
        if is_named(fields, facts):
            original.close()
        else:
            picture = await derived.derive(original, wanted)
            facts = picture.image
        try:
            answer = answer_image(method, fields, facts, cache_control=self.cache_control)
        except BaseException:
            if picture is not None:
                picture.close()
            raise
        return ImageResponse(answer, picture)

    async def _type_of(self, method: str, key: StorageKey) -> str:
        """The content type of an image that is there; empty where it was not looked at."""
        if method == "HEAD":
            return (await self.storage.stat(key)).content_type
        location = await self.storage.locate(key)
        return (isinstance(location, RemoteImage) and location.content_type) or ""

    async def _poster(self, key: StorageKey) -> OpenedImage:
        """The picture that is saved beside a video.

        Raises:
            UnsupportedMedia: there is none; no frame is decoded here.
        """
        try:
            return await self.storage.open(poster_of(key))
        except (ImageNotFound, InvalidPath):
            why = f"no picture is made of a video; save one beside it, as <its path>{POSTER_SUFFIX}"
            raise UnsupportedMedia(why) from None

    async def save_image(self, request: Request) -> Response:
        """Save image to storage."""
        call = await Call.of(request, self.authorize)
        image_path = call.image_path("storage:write")
        # Streamed as it comes: nothing of it is spooled.
        saved = await self.store(call.grant, image_path, call.fields, request.stream())
        if self.on_save is not None:
            self.on_save(request)
        return json_answer(saved)

    async def store(
        self, grant: Grant, image_path: ImagePath, fields: Fields, body: AsyncIterator[bytes]
    ) -> dict[str, object]:
        """What `save_image` does once it is known who asks, and for which path.

        Args:
            grant: The caller's rights.
            image_path: Where to save.
            fields: The request's.
            body: Its body, of which nothing is asked for before all that can be checked has passed.

        Returns:
            The answer; see `SavedImage`.

        Raises:
            StillroomError: as the refusals of the document say.
        """
        grant.require("storage:write", image_path)
        body_bytes = self._length_of(fields)
        upload = FilePart(
            body,
            boundary_of(fields),
            max_bytes=body_bytes,
            expected_sha256=request_sha256(fields),
        )
        condition = write_condition(fields)
        lasts = lifetime(fields.get("expires-in"))
        if lasts is not None:
            await self.lifetimes.require_database()

        with explained(condition):
            image = await self.storage.save(StorageKey.of_image(image_path), upload, condition)
        saved = saved_answer(image, image_path, self.public_url)
        if lasts is not None:
            saved["expires_at"] = (await self.lifetimes.end(image, lasts)).isoformat()
        return saved

    def _length_of(self, fields: Fields) -> int | None:
        """The body's length, if it is declared and an image of allowed size can be in it."""
        declared = fields.get("content-length")
        if declared is None:
            return None
        if int(declared) > self.max_upload_bytes + FRAMING_BYTES:
            raise TooLarge(f"the image is larger than {self.max_upload_bytes} bytes")
        return int(declared)

    async def delete_image(self, request: Request) -> Response:
        """Delete image from storage."""
        call = await Call.of(request, self.authorize)
        image_path = call.image_path("storage:delete")
        condition = write_condition(call.fields)

        with explained(condition):
            await self.storage.delete(StorageKey.of_image(image_path), condition)
        return json_answer({"path": image_path.text})


def _elsewhere(method: str, place: RemoteImage) -> Response:
    """A redirect to what a CDN makes, or for HEAD what is known of it."""
    if method == "GET":
        return ImageResponse(answer_redirect(place))
    return ImageResponse(answer_made_elsewhere(place.content_type or DEFAULT))


def images_router(operations: ImageOperations) -> OperationRouter:
    """The routes of the five operations, below `/storage/images`."""
    router = OperationRouter("/storage/images", tag="Storage")
    router.add(
        "",
        Operation(
            "GET",
            operations.list_images,
            (401, 403, 501, 503),
            answer=list[str],
            query=LIST_QUERY,
            is_paged=True,
            example=["cats/tom.png", PATH_EXAMPLE],
        ),
    )
    router.add(
        IMAGE_PATH,
        Operation(
            "GET",
            operations.get_image,
            (401, 403, 404, 412, 415, 503),
            query=DERIVATION_QUERY,
            headers=("If-Match", "If-None-Match", "Range"),
        ),
        Operation(
            "POST",
            operations.save_image,
            (400, 401, 403, 409, 412, 413, 415, 501, 503, 507),
            body=UploadFile,
            answer=SavedImage,
            headers=("If-Match", "If-None-Match", "Repr-Digest", "Expires-In"),
        ),
        Operation(
            "DELETE",
            operations.delete_image,
            (401, 403, 404, 412, 503),
            answer=DeletedImage,
            headers=("If-Match",),
        ),
        Operation(
            "HEAD",
            operations.check_image_exists,
            (401, 403, 404, 412, 415, 503),
            query=DERIVATION_QUERY,
            headers=("If-Match", "If-None-Match"),
        ),
    )
    return router


def saved_answer(image: StoredImage, path: ImagePath, public_url: str) -> dict[str, object]:
    """The content of a `SavedImage`."""
    return {
        "path": path.text,
        "url": f"{public_url}/{path.quoted()}",
        "size": image.size,
        "content_type": image.content_type,
        "sha256": image.sha256.hex() if image.sha256 else None,
        "etag": image.etag,
    }
