"""HTTP operation that returns an image's properties, generation parameters and AI mark."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from stillroom.errors import BackendUnavailable, Unauthenticated
from stillroom.features.metadata.metrics import count_mark, count_reading
from stillroom.generation.reading import Found, find_by_reading, reader_of
from stillroom.paths import StorageKey
from stillroom.store.api.call import Call, authenticate
from stillroom.store.api.entries import ListedEntry, describe_image
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.operation import IMAGE_PATH, raw_image_path
from stillroom.store.api.responses import json_answer, json_bytes
from stillroom.store.api.routes import Operation
from stillroom.store.api.views import view_of
from stillroom.store.auth.grants import Grant
from stillroom.store.http.fields import Fields, combined, entity_tags
from stillroom.store.http.serving import PRIVATE_CACHE
from stillroom.store.values import ANY, StoredImage
from stillroom.wire import images as wire
from stillroom.wire.generation import Generation, Lora

_DATABASE_TIMEOUT_S: Final = 2.0
_VERSION: Final = "g4"  # part of the ETag; change it if new versions return other metadata

T = TypeVar("T")


@view_of(Lora)
class UsedLora(BaseModel):
    """LoRA (low-rank adaptation of the model) with which the image was made."""


@view_of(
    Generation,
    loras=list[UsedLora] | None,
    derived_from=list[str] | None,
    raw=dict[str, object] | None,
)
class GenerationFacts(BaseModel):
    """Generation parameters, as written by the tool that made the image; null if unknown."""


@view_of(wire.FoundImage, ["generation"], generation=GenerationFacts | None)
class ImageMetadata(ListedEntry):
    """Properties of an image, with its generation parameters and AI mark."""


@view_of(
    wire.ImageMetadata,
    ["expires_at", "derived_from", "derivatives"],
    derived_from=list[str] | None,
)
class ImageMetadataAndEnd(ImageMetadata):
    """Properties of an image, with its generation parameters, expiration and lineage."""


@dataclass(frozen=True, slots=True)
class MetadataOperation:
    """Operation that returns the metadata of an image.

    Attributes:
        expiration: Returns the time at which an image expires, or None.
        lineage: Returns the members `derived_from` and `derivatives` of the metadata, with images
            from a folder only.
    """

    images: ImageOperations
    expiration: Callable[[StoredImage], Awaitable[datetime | None]] | None = None
    lineage: Callable[[StoredImage, str], Awaitable[Mapping[str, object]]] | None = None

    @Operation(
        "GET",
        IMAGE_PATH,
        (404, 503),
        answer=ImageMetadataAndEnd,
        headers=("If-None-Match",),
        is_cacheable=True,
    )
    async def get_metadata(self, request: Request) -> Response:
        """Get the properties of an image, its generation parameters, expiration and lineage."""
        fields = combined(request.headers.raw)
        # Signatures are ignored here: a signed URL of a thumbnail must not reveal the prompt.
        grant = await self.images.authorize_read(fields, raw_image_path(request), b"")
        path = Call(request, fields, grant).image_path("storage:read")
        opened = await self.images.storage.open(StorageKey.of_image(path))
        with contextlib.closing(opened):
            viewer = await self._viewer(fields, grant)
            members = await self._members(opened.image, viewer)
            digest = hashlib.blake2b(json_bytes(members), digest_size=8).hexdigest()
            etag = f'{opened.image.etag[:-1]}-{_VERSION}-{digest}"'
            # With public images, only clients with a token get the lineage.
            cache = self.images.cache_control if viewer is None else PRIVATE_CACHE
            headers = {"etag": etag, "cache-control": cache}
            client_tags = entity_tags(fields.get("if-none-match"), weak=True) or ()
            if client_tags == ANY or etag in client_tags:
                return Response(status_code=304, headers=headers)
            facts = await find_by_reading(opened.image.size, reader_of(opened.chunks))
        broken = "broken" if facts.broken else "none"
        count_reading("found" if facts.generation is not None else broken)
        count_mark(facts.ai_mark)
        return json_answer(describe_metadata(opened.image, facts, **members), headers=headers)

    async def _viewer(self, fields: Fields, grant: Grant) -> Grant | None:
        if self.images.public_read:
            try:
                grant = await authenticate(self.images.authorize, fields)
            except Unauthenticated:
                return None
        return grant if "storage:read" in grant.scopes else None

    async def _members(self, image: StoredImage, viewer: Grant | None) -> dict[str, object]:
        lineage, folder = self.lineage if viewer else None, viewer.folder if viewer else ""
        expires_at, known = await asyncio.gather(
            _in_time(self.expiration and self.expiration(image)),
            _in_time(lineage and lineage(image, folder)),
        )
        expires = expires_at.isoformat() if expires_at is not None else None
        unknown = {"derived_from": None, "derivatives": None}
        return {"expires_at": expires, **(known or unknown)}


async def _in_time(result: Awaitable[T] | None) -> T | None:
    if result is not None:
        with contextlib.suppress(BackendUnavailable, TimeoutError):
            async with asyncio.timeout(_DATABASE_TIMEOUT_S):
                return await result
    return None


def describe_metadata(image: StoredImage, found: Found, **others: object) -> dict[str, object]:
    """Return the metadata of an image as a JSON object. `others` are additional members."""
    generation = None if found.generation is None else found.generation.as_json()
    marked = {**describe_image(image), "ai_mark": found.ai_mark}
    return {**marked, **others, "generation": generation}
