"""The listing with facts: what there is below a prefix, and what is known of it."""

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
from stillroom.api.document import ETAG_EXAMPLE, PATH_EXAMPLE, SHA256_EXAMPLE
from stillroom.api.listing import Listing
from stillroom.api.responses import json_answer, json_bytes
from stillroom.api.routes import Operation, OperationRouter
from stillroom.auth.grants import Authorize
from stillroom.errors import BackendUnavailable
from stillroom.generation.ai_mark import AiMark
from stillroom.http.fields import as_rfc3339
from stillroom.http.problems import JSON_HEADERS
from stillroom.http.query import LIST_QUERY
from stillroom.media.database import MediaDatabase
from stillroom.paths import KeyPrefix, StorageKey, image_entry
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import Entry, StoredImage

_WRITTEN_AT_ONCE: Final = 250
"""Entries turned into JSON in one go, some 2 ms; all 10,000 would hold up everybody for 70."""

_WAITED_FOR_MARKS_S: Final = 2.0
"""For a whole page: 10,000 marks take half a second, of a PostgreSQL on a busy machine more."""


class ListedEntry(BaseModel):
    """An image and its facts. Of a folder (`delimiter=/`) only the path is known, the rest null."""

    path: str = Field(
        description="a folder's ends in a slash, an image's never does", examples=[PATH_EXAMPLE]
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
        description="hexadecimal; null also where it is not known", examples=[SHA256_EXAMPLE]
    )
    ai_mark: AiMark | None = Field(
        description="whether the image says that AI made it: c2pa (a manifest, not verified), iptc "
        "(DigitalSourceType in XMP), both, none; null where that cannot be told, and in a listing "
        "where it is not known yet",
        examples=["iptc"],
    )


@dataclass(frozen=True, slots=True)
class EntryListing:
    """The one operation over one storage.

    Attributes:
        storage: Where the bytes are.
        database: Has the search index, which knows the AI marks.
        authorize: Who is asking.
    """

    storage: ImageStorage
    database: MediaDatabase
    authorize: Authorize

    async def list_entries(self, request: Request) -> Response:
        """List stored images with size, time, content type, ETag and SHA-256."""
        listing = Listing.of(await Call.of(request, self.authorize))
        if listing.is_above_folder:
            way = await listing.way_to_folder(self.storage)
            return json_answer([_folder(path) for path in way])
        page = await self.storage.entries(listing.query)
        response = await self._answer(page.entries)
        if page.next_after is not None:
            response.headers["link"] = listing.asked.link_to_next(image_entry(page.next_after))
        return response

    async def _answer(self, entries: Sequence[Entry]) -> Response:
        """The same as `json_answer`, in portions between which others get a turn."""
        portions, ends = [], asyncio.get_running_loop().time() + _WAITED_FOR_MARKS_S
        for start in range(0, len(entries), _WRITTEN_AT_ONCE):
            some = entries[start : start + _WRITTEN_AT_ONCE]
            marks = await self._marks([one for one in some if isinstance(one, StoredImage)], ends)
            portion = [described(entry, marks) for entry in some]
            portions.append(json_bytes(portion)[1:-1])
            await asyncio.sleep(0)  # others have their turn
        return Response(b"[" + b",".join(portions) + b"]", headers=dict(JSON_HEADERS))

    async def _marks(
        self, images: Sequence[StoredImage], ends: float
    ) -> Mapping[StorageKey, AiMark]:
        """What the search index knows until then; a listing needs no database."""
        rows = self.database.opened
        if rows is not None and images:
            with contextlib.suppress(BackendUnavailable, TimeoutError):
                async with asyncio.timeout_at(ends):
                    return await rows.search.marks(images)
        return {}


def entries_router(listing: EntryListing) -> OperationRouter:
    """The route of the one operation, `/storage/entries`."""
    router = OperationRouter("/storage/entries", tag="Storage")
    router.add(
        "",
        Operation(
            "GET",
            listing.list_entries,
            (401, 403, 501, 503),
            answer=list[ListedEntry],
            query=LIST_QUERY,
            is_paged=True,
        ),
    )
    return router


def described(
    entry: Entry, marks: Mapping[StorageKey, AiMark] = MappingProxyType({})
) -> dict[str, object]:
    """The content of a `ListedEntry`; `marks` are the AI marks that are known."""
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
