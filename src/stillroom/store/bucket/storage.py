"""`R2ImageStorage`: the storage port implemented with a bucket and, optionally, a CDN."""

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from stillroom import errors
from stillroom.concurrently import map_concurrently
from stillroom.paths import IMAGE_PREFIXES, KeyPrefix, StorageKey
from stillroom.store import causes
from stillroom.store.bucket.conditions import IF_ABSENT, guard_for
from stillroom.store.bucket.limits import MemoryBudget
from stillroom.store.bucket.listing import list_page
from stillroom.store.bucket.multipart import MAX_PARTS, PART_BYTES
from stillroom.store.bucket.objects import ObjectImage, fetch_facts, image_of, properties_of
from stillroom.store.bucket.order import ListingOrder, probe_order
from stillroom.store.bucket.upload import GUARD_ATTEMPTS, PartBuffer, Upload, UploadContext
from stillroom.store.bucket.uploads import BucketUploads
from stillroom.store.capabilities import UNWATCHED, ChangeObserver, Limitation
from stillroom.store.objectstore import DEADLINE_S, Guard, ObjectStore, Refusal
from stillroom.store.sources import ImageSource
from stillroom.store.values import (
    UNCONDITIONAL,
    Condition,
    Entry,
    EntryPage,
    ListQuery,
    Page,
    RemoteImage,
    SaveRules,
    StoredImage,
)

BUFFERED_BYTES: Final = 128 * 1024**2  # of all uploads: seven parts, or more small images
_SMALL_BYTES: Final = 1024**2  # maximum size of a small image
_RESERVED_FOR_SMALL_BYTES: Final = 16 * 1024**2  # so that large uploads do not block small images
_RECACHE_S: Final = 300.0  # for a copy of 5 GiB within the bucket
PRESIGNED_S: Final = 300  # long enough for following a redirect
_MAX_LOCATIONS: Final = 4096  # about 10 MiB, since an encoded key has up to 3 KiB
MAX_CONCURRENT_HEADS: Final = 32  # of listings; half of the connections remain for other requests
_CHECK_S: Final = 5.0  # timeout of the readiness check in seconds
_CHECK_HOLDS_S: Final = 2.0  # a success is cached, since R2 bills each check (class B)

log = logging.getLogger("stillroom.r2")


class R2ImageStorage:
    """`ImageStorage` in a bucket. docs/r2.md lists the requests that each method sends."""

    def __init__(
        self,
        store: ObjectStore,
        rules: SaveRules,
        *,
        description: str,
        public_url: str | None,
        cache_control: str,
        media_cache_control: str,
        check_exists: bool = True,
        changes: ChangeObserver = UNWATCHED,
    ) -> None:
        """Use the bucket of `store`. `close` also closes `store`. See `R2Config` for arguments."""
        if rules.max_bytes > MAX_PARTS * PART_BYTES:
            raise errors.ConfigurationError(
                "STILLROOM_MAX_UPLOAD_BYTES: a bucket can store at most "
                f"{MAX_PARTS * PART_BYTES} bytes in parts of 16 MiB"
            )
        self.description = f"R2ImageStorage in {description}"
        self._store = store
        self._public_url = public_url
        self._cache_control, self._media_cache_control = cache_control, media_cache_control
        self._check_exists = check_exists
        self._changes = changes
        self._large = MemoryBudget(BUFFERED_BYTES - _RESERVED_FOR_SMALL_BYTES)
        self._small = MemoryBudget(_RESERVED_FOR_SMALL_BYTES)
        self._locations: dict[str, RemoteImage] = {}
        self._locations_second = 0
        self._checked_until = 0.0
        self._entry_slots = asyncio.Semaphore(MAX_CONCURRENT_HEADS)
        self._order = ListingOrder()
        self._context = UploadContext(store, rules, self._cache_of)
        self._locks, self._existence = self._context.locks, self._context.existence
        self.uploads = BucketUploads(self._context, changes, self.delete)

    async def save(
        self, key: StorageKey, source: ImageSource, condition: Condition = UNCONDITIONAL
    ) -> StoredImage:
        """Save an image: in one request if it fits into one part, otherwise in equal parts."""
        guard = await self._admit(key, source.max_bytes, condition)
        if guard is not None:
            large = source.max_bytes is not None and source.max_bytes > PART_BYTES
            await self._context.conditions.require(guard, in_parts=large)
        upload = Upload(self._context, key, source, condition, guard)
        watcher = self._changes.saving(key, causes.current.get())
        part_bytes = PART_BYTES if source.max_bytes is None else min(source.max_bytes, PART_BYTES)
        budget = self._budget_for(part_bytes)
        async with budget.reserve(part_bytes, wait_s=DEADLINE_S) as reservation:
            part = PartBuffer(part_bytes)
            try:
                async for chunk in source:
                    upload.checks.count(chunk)
                    if watcher is not None:
                        watcher.passed(chunk)
                    rest = memoryview(chunk)
                    while rest := part.fill(rest):
                        await upload.send(part)
                        part = PartBuffer(PART_BYTES)  # the previous one may be in use
                if not upload.in_parts:
                    reservation.shrink(len(part))
                    image = await upload.put(part.contents())
                else:
                    image = await upload.complete(part)
            except BaseException:
                upload.abort()
                raise
        if watcher is not None:
            watcher.saved(image)
        return image

    def _budget_for(self, size: int) -> MemoryBudget:
        """Return the budget for `size` bytes. Small images may use the budget of large images."""
        if size > _SMALL_BYTES or (not self._small.has_room(size) and self._large.has_room(size)):
            return self._large
        return self._small

    async def _admit(
        self, key: StorageKey, max_bytes: int | None, condition: Condition
    ) -> Guard | None:
        """Return the guard to send with a save, if any. Raises an error if `condition` fails."""
        if not condition.is_set:
            return None
        if condition.create_only and max_bytes is not None and max_bytes <= PART_BYTES:
            return IF_ABSENT  # the bucket checks it, which saves a request
        return await guard_for(self._store, key.text, condition)

    def _cache_of(self, key: StorageKey) -> str:
        if not key.text.startswith(IMAGE_PREFIXES):
            return "private, no-store"
        return self._media_cache_control if key.is_media else self._cache_control

    async def locate(self, key: StorageKey) -> RemoteImage:
        """Return the image's CDN URL or a presigned URL, after checking that it exists."""
        if self.redirect_now(key) is None:
            await self.stat(key)
        location = self._location_of(key)
        return dataclasses.replace(location, content_type=self._existence.content_type(key.text))

    def redirect_now(self, key: StorageKey) -> RemoteImage | None:
        """Return the URL if the image's existence is cached or need not be checked, else None."""
        if self._check_exists and key.text not in self._existence:
            return None
        return self._location_of(key)

    def _location_of(self, key: StorageKey) -> RemoteImage:
        """Return the image's URL, and cache it. Presigned URLs are cached for one second."""
        second = int(time.time()) if self._public_url is None else 0
        if second != self._locations_second or len(self._locations) >= _MAX_LOCATIONS:
            self._locations.clear()
            self._locations_second = second
        location = self._locations.get(key.text)
        if location is None:
            location = self._locations[key.text] = RemoteImage(self._url(key.text))
        return location

    def _url(self, key: str) -> str:
        if self._public_url is None:
            return self._store.presigned_url(key, valid_for_s=PRESIGNED_S)
        return f"{self._public_url}/{quote(key, safe='/')}"

    async def open(self, key: StorageKey) -> ObjectImage:
        """Open the image with a HEAD request. Reading it costs one GET request for each 4 MiB."""
        return ObjectImage(self._store, await fetch_facts(self._store, key, deadline=None))

    async def stat(self, key: StorageKey, *, deadline: float | None = None) -> StoredImage:
        """Return the image's current metadata from a HEAD request, never from a cache."""
        moment = self._existence.moment
        image = await fetch_facts(self._store, key, deadline=deadline)
        self._existence.note(key.text, image.content_type, moment)
        return image

    async def list(self, query: ListQuery) -> Page:
        """List a page in the bucket's order: by whole keys on R2, by folder on SeaweedFS."""
        page, skipped = await list_page(self._store, query, self._order)
        if skipped:
            message = "a listing below %r omits %d keys that are not valid paths of images"
            log.warning(message, query.prefix.text, skipped)
        return page

    async def entries(self, query: ListQuery) -> EntryPage:
        """List a page of images with their metadata, with one HEAD request for each image."""
        page = await self.list(query)
        entries = await map_concurrently(self._describe, page.entries, limit=MAX_CONCURRENT_HEADS)
        return EntryPage([entry for entry in entries if entry is not None], page.next_after)

    async def _describe(self, text: str) -> Entry | None:
        if text.endswith("/"):
            return KeyPrefix(text)
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        try:
            async with asyncio.timeout_at(deadline):
                await self._entry_slots.acquire()
        except TimeoutError:
            raise errors.BackendUnavailable(
                "too many listings are waiting for the bucket: try again later"
            ) from None
        try:
            return await self.stat(StorageKey(text), deadline=deadline)
        except errors.ImageNotFound:  # deleted after it was listed
            return None
        finally:
            self._entry_slots.release()

    async def delete(
        self, key: StorageKey, condition: Condition = UNCONDITIONAL, *, save_id: str | None = None
    ) -> None:
        """Check the object and the condition with a HEAD request, then delete the object.

        Another process may save a version between the two requests. That version is deleted, too,
        unless its bytes differ and the deletion is conditional. A deletion is conditional if the
        bucket supports that and `condition` or `save_id` is set. With `save_id`, it is not retried.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        began_ns = time.time_ns()
        once = save_id is not None
        guarded = (once or condition.is_set) and await self._context.conditions.guards_deletions()
        async with self._locks.hold(key.text, deadline=deadline):
            for _ in range(GUARD_ATTEMPTS):
                image = await fetch_facts(self._store, key, deadline=deadline)
                condition.check(image.etag)
                if save_id not in (None, image.save_id):
                    raise errors.PreconditionFailed
                guard = Guard(image.etag) if guarded else None
                try:
                    deleted = await self._store.delete(
                        key.text, guard=guard, deadline=deadline, once=once
                    )
                finally:
                    self._existence.forget(key.text)
                # A missing image was deleted by the attempt whose response was lost.
                was_missing = deleted.doubtful and deleted.refusal is Refusal.MISSING
                if deleted.refusal is None or was_missing:
                    self._changes.removed(key, began_ns, causes.current.get())
                    return
                if deleted.doubtful:
                    raise errors.BackendUnavailable(
                        "the connection to the bucket was interrupted during the deletion: the "
                        "outcome is unknown, so try again"
                    )
        raise errors.BackendUnavailable("the image kept changing during the deletion: try again")

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> StoredImage:
        """Copy an image within the bucket, with a new save id and the current cache policy."""
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._locks.hold(target.text, deadline=deadline):
            for _ in range(GUARD_ATTEMPTS):
                original = await fetch_facts(self._store, source, deadline=deadline)
                if save_id not in (None, original.save_id):
                    raise errors.PreconditionFailed
                new_image = dataclasses.replace(original, key=target, save_id=secrets.token_hex(16))
                written = await self.uploads.copy(original, new_image, None, deadline)
                if isinstance(written, StoredImage):
                    return written
                if written.refusal is Refusal.MISSING and written.doubtful:
                    raise errors.BackendUnavailable(
                        "the connection to the bucket was interrupted during the copy: the "
                        "outcome is unknown, so try again"
                    )
                if written.refusal is Refusal.MISSING:  # deleted after the HEAD
                    raise errors.ImageNotFound
        raise errors.BackendUnavailable("the image kept changing during the copy: try again")

    async def recache(self, key: StorageKey) -> bool:
        """Copy an object below `media/` onto itself to set the configured `Cache-Control`.

        Returns False if the object already has this value, or does not exist. The copy needs no
        condition on the target, because an object below `media/` is never replaced.
        """
        deadline = asyncio.get_running_loop().time() + _RECACHE_S
        async with self._locks.hold(key.text, deadline=deadline):
            head = await self._store.head(key.text, deadline=deadline)
            cache_control = self._cache_of(key)
            if head is None or head.cache_control == cache_control:
                return False
            image = image_of(key, head)
            kind, sha256, mtime_ns = image.content_type, image.sha256, image.modified_ns
            properties = properties_of(
                kind, sha256, save_id=image.save_id, cache_control=cache_control, mtime_ns=mtime_ns
            )
            copied = await self._store.copy(
                key.text, head.etag, key.text, properties, deadline=deadline
            )
        return copied.etag is not None

    async def check(self) -> None:
        """Check that the bucket can be read and written. A success is cached for two seconds."""
        now = asyncio.get_running_loop().time()
        if now < self._checked_until:
            return
        await self._store.check(writing=True, deadline=now + _CHECK_S)
        self._checked_until = now + _CHECK_HOLDS_S

    async def lacking_conditions(self) -> Sequence[Limitation]:
        """Test conditional requests with writes to a temporary object; see `conditions.py`."""
        return await self._context.conditions.find_limitations()

    async def lacking_order(self) -> Sequence[Limitation]:
        """Test the order of listings with a few temporary objects; see `order.py`."""
        return await probe_order(self._store)

    async def close(self) -> None:
        """Wait for aborts of uploads, and close all connections. A later request opens new ones."""
        await self._context.conditions.close()
        await self._context.abandoned.close()
        await self._store.close()
        self._entry_slots = asyncio.Semaphore(MAX_CONCURRENT_HEADS)  # for another event loop
