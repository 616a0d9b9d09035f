"""HTTP operation that lists stored images with their properties."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel

from stillroom.paths import image_entry
from stillroom.store.api.call import Call
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.listing import Listing
from stillroom.store.api.responses import json_answer, json_bytes
from stillroom.store.api.routes import Operation
from stillroom.store.api.views import view_of
from stillroom.store.http.fields import as_rfc3339
from stillroom.store.http.problems import JSON_HEADERS
from stillroom.store.http.query import ListParameters
from stillroom.store.values import Entry, StoredImage
from stillroom.wire import images as wire

_ENTRIES_PER_STEP: Final = 250  # serialised at once (2 ms); 10,000 would block the loop for 70 ms
_HOOKS_TIMEOUT_S: Final = 2.0  # for hooks that add fields; 10,000 images usually take 0.5 s


@view_of(
    wire.ImageInfo,
    size=int | None,
    modified=datetime | None,
    content_type=str | None,
    etag=str | None,
)
class ListedEntry(BaseModel):
    """Image with its properties. For a folder (`delimiter=/`), only `path` is not null."""


@dataclass(frozen=True, slots=True)
class EntryListing:
    """Operation that lists images with their properties."""

    images: ImageOperations

    @Operation("GET", "", (501, 503), answer=list[ListedEntry], query=ListParameters, is_paged=True)
    async def list_entries(self, request: Request) -> Response:
        """List stored images with size, time, content type, ETag and SHA-256."""
        listing = Listing.of(await Call.of(request, self.images.authorize))
        if listing.is_above_folder:
            folders = await listing.visible_folder(self.images.storage)
            return json_answer([_folder(path) for path in folders])
        page = await self.images.storage.entries(listing.query)
        response = await self._serialize(page.entries)
        if page.next_after is not None:
            response.headers["link"] = listing.link_after(image_entry(page.next_after))
        return response

    async def _serialize(self, entries: Sequence[Entry]) -> Response:
        steps, deadline = [], asyncio.get_running_loop().time() + _HOOKS_TIMEOUT_S
        for start in range(0, len(entries), _ENTRIES_PER_STEP):
            step = entries[start : start + _ENTRIES_PER_STEP]
            images = [entry for entry in step if isinstance(entry, StoredImage)]
            content = [
                describe_image(entry)
                if isinstance(entry, StoredImage)
                else _folder(image_entry(entry.text))
                for entry in step
            ]
            for hook in self.images.hooks.entries if images else ():
                members = await hook.members(images, deadline)
                for entry, values in zip(step, content, strict=True) if members else ():
                    if isinstance(entry, StoredImage):
                        values.update(members.get(entry.key, {}))
            steps.append(json_bytes(content)[1:-1])
            await asyncio.sleep(0)
        return Response(b"[" + b",".join(steps) + b"]", headers=dict(JSON_HEADERS))


def describe_image(image: StoredImage) -> dict[str, object]:
    """Return an image as a JSON object with the fields of `wire.ImageInfo`."""
    return {
        "path": image_entry(image.key.text),
        "size": image.size,
        "modified": as_rfc3339(image.modified_ns),
        "content_type": image.content_type,
        "etag": image.etag,
        "sha256": image.sha256.hex() if image.sha256 else None,
        "ai_mark": None,  # a hook may replace it
    }


_UNKNOWN: Final = dict.fromkeys(wire.ENTRY_FIELDS)


def _folder(path: str) -> dict[str, object]:
    return {**_UNKNOWN, "path": path}
