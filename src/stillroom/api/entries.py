"""HTTP operation that lists stored images with their properties."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.api.call import Call
from stillroom.api.listing import Listing
from stillroom.api.responses import json_answer, json_bytes
from stillroom.api.routes import Operation
from stillroom.auth.grants import Authorize
from stillroom.errors import BackendUnavailable
from stillroom.generation.ai_mark import AiMark
from stillroom.http.fields import as_rfc3339
from stillroom.http.problems import JSON_HEADERS
from stillroom.http.query import ListParameters
from stillroom.media.database import MediaDatabase
from stillroom.paths import KeyPrefix, StorageKey, image_entry
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import Entry, StoredImage
from stillroom.wire.shown import ETAG_EXAMPLE, PATH_EXAMPLE, SHA256_EXAMPLE

_ENTRIES_PER_STEP: Final = 250
"""Number of entries that are serialised before the event loop can run other tasks (about 2 ms).

Serialising 10,000 entries at once would block the event loop for 70 ms."""

_MARKS_TIMEOUT_S: Final = 2.0
"""Time limit in seconds for reading the AI marks of a page. For 10,000 images, half a second is
usual."""


class ListedEntry(BaseModel):
    """Image with its properties. A folder (`delimiter=/`) has only a path; the rest is null."""

    path: str = Field(
        description="paths of folders end in a slash, those of images do not",
        examples=[PATH_EXAMPLE],
    )
    size: int | None = Field(description="bytes", examples=[1_258_291])
    modified: datetime | None = Field(
        description="when it was saved", examples=["2026-11-24T15:00:00+00:00"]
    )
    content_type: str | None = Field(examples=["image/png"])
    etag: str | None = Field(
        description="with its quotes, ready for If-Match", examples=[ETAG_EXAMPLE]
    )
    sha256: str | None = Field(
        description="hexadecimal; null also if it is not known", examples=[SHA256_EXAMPLE]
    )
    ai_mark: AiMark | None = Field(
        description="mark in the image that AI made it: c2pa (a manifest, not verified), iptc "
        "(DigitalSourceType in XMP), both, none; null if it cannot be determined, or in a listing "
        "is not known yet",
        examples=["iptc"],
    )


@dataclass(frozen=True, slots=True)
class EntryListing:
    """Operation that lists images with their properties. `database` contains the AI marks."""

    storage: ImageStorage
    database: MediaDatabase
    authorize: Authorize

    @Operation(
        "GET",
        "",
        (401, 403, 501, 503),
        answer=list[ListedEntry],
        query=ListParameters,
        is_paged=True,
    )
    async def list_entries(self, request: Request) -> Response:
        """List stored images with size, time, content type, ETag and SHA-256."""
        listing = Listing.of(await Call.of(request, self.authorize))
        if listing.is_above_folder:
            folders = await listing.visible_folder(self.storage)
            return json_answer([_folder(path) for path in folders])
        page = await self.storage.entries(listing.query)
        response = await self._serialize(page.entries)
        if page.next_after is not None:
            response.headers["link"] = listing.link_after(image_entry(page.next_after))
        return response

    async def _serialize(self, entries: Sequence[Entry]) -> Response:
        steps, deadline = [], asyncio.get_running_loop().time() + _MARKS_TIMEOUT_S
        for start in range(0, len(entries), _ENTRIES_PER_STEP):
            step = entries[start : start + _ENTRIES_PER_STEP]
            images = [entry for entry in step if isinstance(entry, StoredImage)]
            marks = await self._marks(images, deadline)
            steps.append(json_bytes([described(entry, marks) for entry in step])[1:-1])
            await asyncio.sleep(0)
        return Response(b"[" + b",".join(steps) + b"]", headers=dict(JSON_HEADERS))

    async def _marks(
        self, images: Sequence[StoredImage], deadline: float
    ) -> Mapping[StorageKey, AiMark]:
        """Return AI marks from the search index, or {} if the database does not respond in time."""
        rows = self.database.opened
        if rows is not None and images:
            with contextlib.suppress(BackendUnavailable, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    return await rows.search.marks(images)
        return {}


def described(
    entry: Entry, marks: Mapping[StorageKey, AiMark] = MappingProxyType({})
) -> dict[str, object]:
    """Return a listing entry as a JSON object with the fields of `ListedEntry`."""
    if isinstance(entry, KeyPrefix):
        return _folder(image_entry(entry.text))
    return {
        "path": image_entry(entry.key.text),
        "size": entry.size,
        "modified": as_rfc3339(entry.modified_ns),
        "content_type": entry.content_type,
        "etag": entry.etag,
        "sha256": entry.sha256.hex() if entry.sha256 else None,
        "ai_mark": marks.get(entry.key),
    }


_UNKNOWN: Final = dict.fromkeys(("size", "modified", "content_type", "etag", "sha256", "ai_mark"))


def _folder(path: str) -> dict[str, object]:
    return {"path": path, **_UNKNOWN}
