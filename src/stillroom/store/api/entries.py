"""HTTP operation that lists stored images with their properties."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel

from stillroom.errors import BackendUnavailable
from stillroom.features.library.database import MediaDatabase
from stillroom.features.search.database import search_rows
from stillroom.generation.ai_mark import AiMark
from stillroom.generation.reading import Found
from stillroom.paths import StorageKey, image_entry
from stillroom.store.api.call import Call
from stillroom.store.api.listing import Listing
from stillroom.store.api.responses import json_answer, json_bytes
from stillroom.store.api.routes import Operation
from stillroom.store.api.views import view_of
from stillroom.store.auth.grants import Authorize
from stillroom.store.http.fields import as_rfc3339
from stillroom.store.http.problems import JSON_HEADERS
from stillroom.store.http.query import ListParameters
from stillroom.store.port import ImageStorage
from stillroom.store.values import Entry, StoredImage
from stillroom.wire import images as wire

_ENTRIES_PER_STEP: Final = 250
"""Number of entries that are serialised before the event loop can run other tasks (about 2 ms).

Serialising 10,000 entries at once would block the event loop for 70 ms."""

_MARKS_TIMEOUT_S: Final = 2.0
"""Time limit in seconds for reading the AI marks of a page. For 10,000 images, half a second is
usual."""


@view_of(
    wire.ImageInfo,
    size=int | None,
    modified=datetime | None,
    content_type=str | None,
    etag=str | None,
)
class ListedEntry(BaseModel):
    """Image with properties. For a folder (`delimiter=/`), all fields except `path` are null."""


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
            described = [
                _described(entry, marks.get(entry.key))
                if isinstance(entry, StoredImage)
                else _folder(image_entry(entry.text))
                for entry in step
            ]
            steps.append(json_bytes(described)[1:-1])
            await asyncio.sleep(0)
        return Response(b"[" + b",".join(steps) + b"]", headers=dict(JSON_HEADERS))

    async def _marks(
        self, images: Sequence[StoredImage], deadline: float
    ) -> Mapping[StorageKey, AiMark]:
        """Return AI marks from the search index, or {} if the database does not respond in time."""
        if self.database.is_open and images:
            with contextlib.suppress(BackendUnavailable, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    return await (await search_rows(self.database)).marks(images)
        return {}


def described_metadata(image: StoredImage, found: Found, **others: object) -> dict[str, object]:
    """Return the metadata of an image as a JSON object with the fields of `wire.ImageMetadata`."""
    facts = found.generation
    described = _described(image, found.ai_mark)
    return {**described, **others, "generation": None if facts is None else facts.as_json()}


def _described(image: StoredImage, mark: AiMark | None) -> dict[str, object]:
    return {
        "path": image_entry(image.key.text),
        "size": image.size,
        "modified": as_rfc3339(image.modified_ns),
        "content_type": image.content_type,
        "etag": image.etag,
        "sha256": image.sha256.hex() if image.sha256 else None,
        "ai_mark": mark,
    }


_UNKNOWN: Final = dict.fromkeys(wire.ENTRY_FIELDS)


def _folder(path: str) -> dict[str, object]:
    return {**_UNKNOWN, "path": path}
