"""HTTP operation that returns an image's properties, generation parameters and AI mark."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.api.call import Call
from stillroom.api.entries import ListedEntry, described
from stillroom.api.images import ImageOperations
from stillroom.api.operation import IMAGE_PATH, raw_image_path
from stillroom.api.responses import json_answer
from stillroom.api.routes import Operation
from stillroom.errors import BackendUnavailable
from stillroom.generation.reading import Found, find_by_reading, reader_of
from stillroom.http.fields import combined, entity_tags
from stillroom.media.retention.evaluator import RetentionEvaluator
from stillroom.paths import StorageKey
from stillroom.storage.values import ANY, StoredImage
from stillroom.telemetry import metrics
from stillroom.wire.shown import PATH_EXAMPLE, SHA256_EXAMPLE

_EXPIRATION_TIMEOUT_S: Final = 2.0

_VERSION: Final = "g3"
"""Part of the ETag. Change it if a new version returns other metadata for the same image."""


class UsedLora(BaseModel):
    """LoRA (low-rank adaptation of the model) with which the image was made."""

    name: str = Field(examples=["ink-lines"])
    weight: float | None = Field(description="1 is its full strength", examples=[0.8])


class GenerationFacts(BaseModel):
    """Generation parameters, as written by the tool that made the image; null if unknown."""

    tool: str | None = Field(examples=["ComfyUI"])
    prompt: str | None = Field(examples=["a red fox in the snow"])
    negative_prompt: str | None = Field(examples=["blurry"])
    seed: int | None = Field(description="up to 2**64 - 1", examples=[965_400_086])
    steps: int | None = Field(examples=[20])
    cfg_scale: float | None = Field(examples=[7.0])
    sampler: str | None = Field(examples=["euler"])
    scheduler: str | None = Field(examples=["karras"])
    model: str | None = Field(
        description="as the tool names it", examples=["sd_xl_base_1.0.safetensors"]
    )
    loras: list[UsedLora] | None
    width: int | None = Field(description="pixels asked for", examples=[1024])
    height: int | None = Field(description="pixels asked for", examples=[1024])
    derived_from: list[str] | None = Field(
        description="paths or SHA-256 of the images from which it was made",
        examples=[[PATH_EXAMPLE, SHA256_EXAMPLE]],
    )
    raw: dict[str, object] | None = Field(
        description="metadata as written by the tool, by its name in the file"
    )


class ImageMetadata(ListedEntry):
    """Properties of an image, with its generation parameters and AI mark."""

    generation: GenerationFacts | None = Field(
        description="null if the image contains no metadata of a known tool"
    )


class ImageMetadataAndEnd(ImageMetadata):
    """Properties of an image, with its generation parameters, AI mark and expiration."""

    expires_at: datetime | None = Field(
        description="when it becomes due for deletion, by its own expiration, its pending deletion "
        "or a retention rule; null if it is kept or this is unknown (it depends on newer runs, or "
        "the database is unavailable)",
        examples=["2026-12-01T15:00:00+00:00"],
    )


@dataclass(frozen=True, slots=True)
class MetadataOperation:
    """Operation that returns the metadata of one image."""

    images: ImageOperations
    retention: RetentionEvaluator

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
        try:
            expires_at = await self._expires_at(opened.image)
            etag = _etag(opened.image, expires_at)
            headers = {"etag": etag, "cache-control": self.images.cache_control}
            client_tags = entity_tags(fields.get("if-none-match"), weak=True) or ()
            if client_tags == ANY or etag in client_tags:
                return Response(status_code=304, headers=headers)
            facts = await find_by_reading(opened.image.size, reader_of(opened.chunks))
        finally:
            opened.close()
        metrics.count_reading(_outcome(facts))
        metrics.count_ai_mark(facts.ai_mark)
        generation = facts.generation.as_json() if facts.generation is not None else None
        entry = {
            **described(opened.image),
            "ai_mark": facts.ai_mark,
            "expires_at": expires_at.isoformat() if expires_at is not None else None,
        }
        response = json_answer({**entry, "generation": generation})
        response.headers.update(headers)
        return response

    async def _expires_at(self, image: StoredImage) -> datetime | None:
        """Return an image's expiration, or None if it has none or the database is too slow."""
        with contextlib.suppress(BackendUnavailable, TimeoutError):
            async with asyncio.timeout(_EXPIRATION_TIMEOUT_S):
                return await self.retention.expected_expiration(image)
        return None


def _etag(image: StoredImage, expires_at: datetime | None) -> str:
    expiration = "" if expires_at is None else f"-{int(expires_at.timestamp()):x}"
    return f'{image.etag[:-1]}-{_VERSION}{expiration}"'


def _outcome(facts: Found) -> str:
    if facts.generation is not None:
        return "found"
    return "broken" if facts.broken else "none"
