"""The bucket as its operator looks at it: what is there, and what should not be."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256 as sha256_of
from typing import Final

from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.bucket.listing import is_image_entry, walk
from stillroom.storage.bucket.objects import image_of
from stillroom.storage.inspection import Inspected, UnexpectedFile
from stillroom.storage.s3 import xml
from stillroom.storage.s3.client import DEADLINE_S, BodyStream, BucketClient, Call
from stillroom.storage.values import StoredImage

QUARANTINE: Final = "quarantine/"
"""Beside `compute/`, so that no image path leads there."""

_INCOMPLETE_FOR: Final = timedelta(days=1)
"""No upload takes so long; the lifecycle rule that docs/r2.md asks for ends it then."""

_MISSING: Final = frozenset((404,))
_CHECKED_KEY: Final = ".stillroom/check"


class R2Inspection:
    """An `Inspection` of a bucket."""

    at_once = 8  # the way to the bucket and back takes longer than the bytes of most images

    def __init__(self, client: BucketClient, *, description: str) -> None:
        """Look at the bucket of `client`, and close it in the end."""
        self.description = description
        self._client = client

    async def walk(
        self, prefix: KeyPrefix, after: str
    ) -> AsyncIterator[StorageKey | UnexpectedFile]:
        """One pass over the bucket's pages, then one over its unfinished uploads."""
        async for key in walk(self._client, prefix, after):
            if key is None:
                yield UnexpectedFile(f"{prefix.text}…", "keys that are no text, or end in a slash")
            elif not is_image_entry(key):
                yield UnexpectedFile(ascii(key)[1:-1], "no path is such a key")
            else:
                yield StorageKey(key)
        async for upload in self._incomplete(prefix):
            detail = f"an upload in parts that was begun {upload.initiated} and not completed"
            yield UnexpectedFile(ascii(upload.key)[1:-1], detail)

    async def _incomplete(self, prefix: KeyPrefix) -> AsyncIterator[xml.ListedUpload]:
        query = {"uploads": "", "prefix": prefix.text}
        latest = datetime.now(UTC) - _INCOMPLETE_FOR
        while True:
            answer = await self._client.send(Call("ListMultipartUploads", "GET", query=query))
            try:
                page = xml.uploads_page(answer.body)
                for upload in page.uploads:
                    if datetime.fromisoformat(upload.initiated) < latest:
                        yield upload
            except (xml.BrokenXml, ValueError, TypeError) as error:  # a time, and its zone
                raise BackendUnavailable("the bucket sent uploads that cannot be read") from error
            if page.next_markers is None:
                return
            markers = {"key-marker": page.next_markers[0], "upload-id-marker": page.next_markers[1]}
            if query.items() >= markers.items():
                raise BackendUnavailable("the bucket's list of uploads does not move on")
            query |= markers

    async def open(self, key: StorageKey) -> Inspected:
        """One GET: its head has the facts, and its body is of the same save."""
        call = Call("GetObject", "GET", key.text, expected=_MISSING, streams=True)
        answer = await self._client.send(call)
        if answer.rest is None:
            raise ImageNotFound
        try:
            return Inspected(_Download(image_of(key, answer.headers), answer.rest))
        except BackendUnavailable:
            answer.rest.close()
            raise

    async def stat(self, key: StorageKey) -> StoredImage:
        """As the port has it."""
        return await self._look(key)

    async def _look(self, key: StorageKey, *, deadline: float | None = None) -> StoredImage:
        answer = await self._client.send(
            Call("HeadObject", "HEAD", key.text, expected=_MISSING), deadline=deadline
        )
        if answer.status in _MISSING:
            raise ImageNotFound
        return image_of(key, answer.headers)

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        """A copy beside `compute/` with its document, then a look, and directly the deletion."""
        name = sha256_of(f"{image.key.text} {image.save_id}".encode()).hexdigest()[:32]
        place = f"{QUARANTINE}{name}-{secrets.token_hex(4)}"
        deadline = asyncio.get_running_loop().time() + 2 * DEADLINE_S
        copied = await self._client.send(
            Call(
                "CopyObject",
                "PUT",
                f"{place}/image",
                headers={
                    "x-amz-copy-source": self._client.copy_source(image.key.text),
                    "x-amz-copy-source-if-match": image.etag,
                },
                expected=frozenset((404, 412)),
                timeout_s=DEADLINE_S,
            ),
            deadline=deadline,
        )
        if copied.status in (404, 412):
            return None
        await self._client.send(
            Call(
                "PutObject",
                "PUT",
                f"{place}/facts.json",
                headers={"content-type": "application/json", "cache-control": "no-store"},
                body=facts,
                sha256=sha256_of(facts).hexdigest(),
            ),
            deadline=deadline,
        )
        try:
            current: StoredImage | None = await self._look(image.key, deadline=deadline)
        except ImageNotFound:
            current = None
        if current is None or (current.save_id, current.etag) != (image.save_id, image.etag):
            for key in (f"{place}/image", f"{place}/facts.json"):
                await self._delete(key, deadline)
            return None
        await self._delete(image.key.text, deadline)
        return place

    async def _delete(self, key: str, deadline: float) -> None:
        await self._client.send(
            Call("DeleteObject", "DELETE", key, expected=_MISSING), deadline=deadline
        )

    async def check(self) -> None:
        """Ask for what is never there."""
        await self._client.send(Call("GetObject", "GET", _CHECKED_KEY, expected=_MISSING))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


@dataclass(slots=True)
class _Download:
    """A `OpenedImage` whose bytes come once, from the start."""

    image: StoredImage
    body: BodyStream

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        if start != 0 or length != self.image.size:
            raise ValueError("a download is read whole")
        received = 0
        async for chunk in self.body.chunks():
            received += len(chunk)
            yield chunk
        if received != length:
            raise BackendUnavailable("the bucket sent another number of bytes than it announced")

    def close(self) -> None:
        self.body.close()
