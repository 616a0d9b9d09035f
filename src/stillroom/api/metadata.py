"""One image's entry with the facts about its generation and its mark, read from its bytes."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.api.call import Call
from stillroom.api.document import PATH_EXAMPLE, SHA256_EXAMPLE
from stillroom.api.entries import ListedEntry, described
from stillroom.api.images import ImageOperations
from stillroom.api.operation import IMAGE_PATH, raw_image_path
from stillroom.api.responses import json_answer
from stillroom.api.routes import Operation, OperationRouter
from stillroom.errors import BackendUnavailable
from stillroom.generation.reading import Found, find_by_reading, reader_of
from stillroom.http.fields import combined, entity_tags
from stillroom.media.retention.evaluator import RetentionEvaluator
from stillroom.paths import StorageKey
from stillroom.storage.values import ANY, OpenedImage, StoredImage
from stillroom.telemetry import metrics

_WAITED_FOR_ENDS_S: Final = 2.0

_FORM: Final = "g3"
"""Part of the ETag of an answer: to be raised when the same image gives other facts."""


class UsedLora(BaseModel):
    """A low-rank adaptation of the model."""

    name: str = Field(examples=["ink-lines"])
    weight: float | None = Field(description="1 is its full strength", examples=[0.8])


class GenerationFacts(BaseModel):
    """How an image was made, as the tool that made it says; null where that is not known."""

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
        description="paths or SHA-256 of images that it was made from",
        examples=[[PATH_EXAMPLE, SHA256_EXAMPLE]],
    )
    raw: dict[str, object] | None = Field(
        description="what the tool has written, by its name in the file"
    )


class ImageMetadata(ListedEntry):
    """An entry of a listing, how the image was made, and whether it says that AI made it."""

    generation: GenerationFacts | None = Field(
        description="null where nothing is known that any tool has written"
    )


class ImageMetadataAndEnd(ImageMetadata):
    """The same, and how long the image stays."""

    expires_at: datetime | None = Field(
        description="when it goes, some time later as a rule: by its own end, its deletion or a "
        "rule of retention; null where it stays, and where that is not known: it depends on newer "
        "runs, or the database is away",
        examples=["2026-12-01T15:00:00+00:00"],
    )


@dataclass(frozen=True, slots=True)
class MetadataOperation:
    """The one operation over one storage.

    Attributes:
        images: Where the bytes are, and who may read them.
        retention: Evaluator of the retention rules.
    """

    images: ImageOperations
    retention: RetentionEvaluator

    async def get_metadata(self, request: Request) -> Response:
        """Get the entry of an image with the facts about its generation, and its AI mark."""
        fields = combined(request.headers.raw)
        # No signature counts here: one for a small picture does not show how it was made.
        grant = await self.images.reader(fields, raw_image_path(request), b"")
        path = Call(request, fields, grant).image_path("storage:read")
        opened = await self.images.storage.open(StorageKey.of_image(path))
        try:
            expires_at = await self._expires_at(opened.image)
            etag = _etag(opened.image, expires_at)
            about = {"etag": etag, "cache-control": self.images.cache_control}
            known = entity_tags(fields.get("if-none-match"), weak=True) or ()
            if known == ANY or etag in known:
                return Response(status_code=304, headers=about)
            found = await _read(opened)
        finally:
            opened.close()
        metrics.count_reading(_outcome(found))
        metrics.count_ai_mark(found.ai_mark)
        generation = found.generation.as_json() if found.generation is not None else None
        entry = {
            **described(opened.image),
            "ai_mark": found.ai_mark,
            "expires_at": expires_at.isoformat() if expires_at is not None else None,
        }
        answer = json_answer({**entry, "generation": generation})
        answer.headers.update(about)
        return answer

    async def _expires_at(self, image: StoredImage) -> datetime | None:
        """When it goes, as far as that can be told soon: facts do not wait for a database."""
        with contextlib.suppress(BackendUnavailable, TimeoutError):
            async with asyncio.timeout(_WAITED_FOR_ENDS_S):
                return await self.retention.expected_expiration(image)
        return None


def metadata_router(operation: MetadataOperation) -> OperationRouter:
    """The route of the one operation, below `/storage/metadata`."""
    router = OperationRouter("/storage/metadata", tag="Storage")
    router.add(
        IMAGE_PATH,
        Operation(
            "GET",
            operation.get_metadata,
            (401, 403, 404, 503),
            answer=ImageMetadataAndEnd,
            headers=("If-None-Match",),
            is_cacheable=True,
        ),
    )
    return router


def _etag(image: StoredImage, expires_at: datetime | None) -> str:
    ends = "" if expires_at is None else f"-{int(expires_at.timestamp()):x}"
    return f'{image.etag[:-1]}-{_FORM}{ends}"'


async def _read(opened: OpenedImage) -> Found:
    return await find_by_reading(opened.image.size, reader_of(opened))


def _outcome(found: Found) -> str:
    if found.generation is not None:
        return "found"
    return "broken" if found.broken else "none"
