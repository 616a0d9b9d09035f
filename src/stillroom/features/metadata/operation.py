"""HTTP operation that returns an image's properties, generation parameters and AI mark."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel

from stillroom.errors import BackendUnavailable
from stillroom.features.metadata.metrics import count_mark, count_reading
from stillroom.generation.reading import Found, find_by_reading, reader_of
from stillroom.paths import StorageKey
from stillroom.store.api.call import Call
from stillroom.store.api.entries import ListedEntry, describe_image
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.operation import IMAGE_PATH, raw_image_path
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.api.views import view_of
from stillroom.store.http.fields import combined, entity_tags
from stillroom.store.values import ANY, StoredImage
from stillroom.wire import images as wire
from stillroom.wire.generation import Generation, Lora

_EXPIRATION_TIMEOUT_S: Final = 2.0
_VERSION: Final = "g3"  # part of the ETag; change it if new versions return other metadata


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


@view_of(wire.ImageMetadata, ["expires_at"])
class ImageMetadataAndEnd(ImageMetadata):
    """Properties of an image, with its generation parameters, AI mark and expiration."""


@dataclass(frozen=True, slots=True)
class MetadataOperation:
    """Operation that returns the metadata of one image. `expiration` returns when it expires."""

    images: ImageOperations
    expiration: Callable[[StoredImage], Awaitable[datetime | None]] | None = None

    @Operation(
        "GET",
        IMAGE_PATH,
        (401, 403, 404, 503),
        answer=ImageMetadataAndEnd,
        headers=("If-None-Match",),
        is_cacheable=True,
    )
    async def get_metadata(self, request: Request) -> Response:
        """Get the properties of an image, its generation parameters, AI mark and expiration."""
        fields = combined(request.headers.raw)
        # Signatures are ignored here: a signed URL of a thumbnail must not reveal the prompt.
        grant = await self.images.authorize_read(fields, raw_image_path(request), b"")
        path = Call(request, fields, grant).image_path("storage:read")
        opened = await self.images.storage.open(StorageKey.of_image(path))
        with contextlib.closing(opened):
            expires_at = await self._expires_at(opened.image)
            expiration = "" if expires_at is None else f"-{int(expires_at.timestamp()):x}"
            etag = f'{opened.image.etag[:-1]}-{_VERSION}{expiration}"'
            headers = {"etag": etag, "cache-control": self.images.cache_control}
            client_tags = entity_tags(fields.get("if-none-match"), weak=True) or ()
            if client_tags == ANY or etag in client_tags:
                return Response(status_code=304, headers=headers)
            facts = await find_by_reading(opened.image.size, reader_of(opened.chunks))
        broken = "broken" if facts.broken else "none"
        count_reading("found" if facts.generation is not None else broken)
        count_mark(facts.ai_mark)
        expires = expires_at.isoformat() if expires_at is not None else None
        content = describe_metadata(opened.image, facts, expires_at=expires)
        return json_answer(content, headers=headers)

    async def _expires_at(self, image: StoredImage) -> datetime | None:
        """Return an image's expiration; None if there is none, or if the database is too slow."""
        if self.expiration is not None:
            with contextlib.suppress(BackendUnavailable, TimeoutError):
                async with asyncio.timeout(_EXPIRATION_TIMEOUT_S):
                    return await self.expiration(image)
        return None


def describe_metadata(image: StoredImage, found: Found, **others: object) -> dict[str, object]:
    """Return the metadata of an image as a JSON object with the fields of `wire.ImageMetadata`."""
    generation = None if found.generation is None else found.generation.as_json()
    marked = {**describe_image(image), "ai_mark": found.ai_mark}
    return {**marked, **others, "generation": generation}
