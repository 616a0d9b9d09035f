"""Inspection of a bucket: walk, open and quarantine images, find unexpected objects."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256 as sha256_of
from typing import Final

from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.maintenance.inspection.port import Inspected, UnexpectedFile
from stillroom.paths import KeyPrefix, StorageKey, is_reserved
from stillroom.store import objectstore
from stillroom.store.bucket.abandoned_uploads import AbandonedUploads
from stillroom.store.bucket.conditions import Conditions
from stillroom.store.bucket.listing import is_image_entry, walk
from stillroom.store.bucket.objects import fetch_facts, image_of
from stillroom.store.bucket.uploads import BucketUploads
from stillroom.store.values import StoredImage

QUARANTINE: Final = "quarantine/"  # key prefix of quarantined images, and of no image path
_INCOMPLETE_FOR: Final = timedelta(days=1)  # then, lifecycle rules abort uploads (docs/r2.md)
_FACTS: Final = objectstore.Properties("application/json", "no-store")


class R2Inspection:
    """`Inspection` implemented for a bucket."""

    at_once = 8  # most images take less time to transfer than a round trip
    trash_prefix = BucketUploads.trash_prefix

    def __init__(self, store: objectstore.ObjectStore, *, description: str) -> None:
        self.description = description
        self._store = store
        self._conditions = Conditions(store, AbandonedUploads(store))

    async def walk(
        self, prefix: KeyPrefix, after: str
    ) -> AsyncIterator[StorageKey | UnexpectedFile]:
        """Yield keys and unexpected objects in the bucket's order, then unfinished uploads."""
        async for key in walk(self._store, prefix, after):
            if key is None:
                yield UnexpectedFile(f"{prefix.text}…", "keys that are not text, or end in a slash")
            elif not is_image_entry(key) and not is_reserved(key):
                yield UnexpectedFile(ascii(key)[1:-1], "not a valid path")
            else:
                yield StorageKey(key)
        async for upload in self._find_incomplete(prefix):
            detail = f"a multipart upload that was started {upload.initiated} and never completed"
            yield UnexpectedFile(ascii(upload.key)[1:-1], detail)

    async def _find_incomplete(self, prefix: KeyPrefix) -> AsyncIterator[objectstore.ListedUpload]:
        latest = datetime.now(UTC) - _INCOMPLETE_FOR
        after: tuple[str, str] | None = None
        while True:
            page = await self._store.list_uploads(prefix.text, after)
            try:
                for upload in page.uploads:
                    if datetime.fromisoformat(upload.initiated) < latest:
                        yield upload
            except (ValueError, TypeError) as error:  # not a time, or a time without a zone
                raise BackendUnavailable(
                    "cannot list the incomplete uploads: the bucket sent an invalid response"
                ) from error
            if page.next_markers is None:
                return
            if page.next_markers == after:
                raise BackendUnavailable(
                    "cannot list the incomplete uploads: the bucket sent the same page twice"
                )
            after = page.next_markers

    async def open(self, key: StorageKey) -> Inspected:
        """Open the image with a single GET request."""
        download = await self._store.download(key.text)
        if download is None:
            raise ImageNotFound
        head, content = download
        return Inspected(_WholeImage(image_of(key, head), content))

    async def stat(self, key: StorageKey) -> StoredImage:
        """Return the metadata from a HEAD request."""
        return await fetch_facts(self._store, key, deadline=None)

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        """Copy an image to `quarantine/`, and delete the original if it is unchanged.

        Without conditional deletions, a version that is saved after the check is deleted, too.
        """
        name = sha256_of(f"{image.key.text} {image.save_id}".encode()).hexdigest()[:32]
        place = f"{QUARANTINE}{name}-{secrets.token_hex(4)}"
        deadline = asyncio.get_running_loop().time() + 2 * objectstore.DEADLINE_S
        copied = await self._store.copy(
            image.key.text, image.etag, f"{place}/image", deadline=deadline
        )
        if copied.etag is None:
            return None
        guarded = await self._conditions.guards_deletions()
        sha256 = sha256_of(facts).hexdigest()
        await self._store.put(f"{place}/facts.json", facts, sha256, _FACTS, deadline=deadline)
        head = await self._store.head(image.key.text, deadline=deadline)
        current = None if head is None else image_of(image.key, head)
        if current is not None and (current.save_id, current.etag) == (image.save_id, image.etag):
            guard = objectstore.Guard(image.etag) if guarded else None
            deleted = await self._store.delete(image.key.text, guard=guard, deadline=deadline)
            if deleted.refusal is None or deleted.doubtful:  # keep a copy that may be the last
                return place
        for key in (f"{place}/image", f"{place}/facts.json"):
            await self._store.delete(key, deadline=deadline)
        return None

    async def check(self) -> None:
        """Check that the bucket can be read."""
        await self._store.check(writing=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._store.close()


@dataclass(slots=True)
class _WholeImage:
    """`OpenedImage` that can be read only once, and only as a whole."""

    image: StoredImage
    download: objectstore.Download

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        if start != 0 or length != self.image.size:
            raise ValueError("a download must be read completely")
        received = 0
        async for chunk in self.download.chunks():
            received += len(chunk)
            yield chunk
        if received != length:
            raise BackendUnavailable(
                f"the bucket sent {received} bytes of the image instead of {length}: read it again"
            )

    def close(self) -> None:
        self.download.close()
