"""`R2ImageStorage`: images as objects, saved in one request if they fit, served by a CDN."""

import asyncio
import concurrent.futures
import dataclasses
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from stillroom.errors import (
    BackendUnavailable,
    ConfigurationError,
    ImageNotFound,
    PreconditionFailed,
)
from stillroom.paths import StorageKey
from stillroom.storage.bucket.abandoned_uploads import AbandonedUploads
from stillroom.storage.bucket.buffer import PartBuffer
from stillroom.storage.bucket.conditions import IF_ABSENT, Conditions, guard_for
from stillroom.storage.bucket.entries import MAX_CONCURRENT_HEADS, describe_page
from stillroom.storage.bucket.existence_cache import ExistenceCache
from stillroom.storage.bucket.image import ObjectImage
from stillroom.storage.bucket.limits import KeyLocks, MemoryBudget
from stillroom.storage.bucket.listing import list_page
from stillroom.storage.bucket.multipart import MAX_PARTS, PART_BYTES
from stillroom.storage.bucket.objects import fetch_facts, properties_of
from stillroom.storage.bucket.order import ListingOrder, probe_order
from stillroom.storage.bucket.upload import GUARD_ATTEMPTS, Upload, UploadContext
from stillroom.storage.capabilities import UNWATCHED, ChangeObserver, Limitation
from stillroom.storage.objectstore import DEADLINE_S, Guard, ObjectStore, Refusal
from stillroom.storage.sources import ImageSource
from stillroom.storage.values import (
    UNCONDITIONAL,
    Condition,
    EntryPage,
    ListQuery,
    Page,
    RemoteImage,
    SaveRules,
    StoredImage,
)

BUFFERED_BYTES: Final = 128 * 1024**2
"""Memory for all uploads together: seven parts, or more of smaller images."""

IMMUTABLE_CACHE: Final = "public, max-age=31536000, immutable"
"""Cache policy of the media library's objects: one year without revalidation (RFC 8246)."""

_SMALL_BYTES: Final = 1024**2
_RESERVED_FOR_SMALL_BYTES: Final = 16 * 1024**2
"""Memory reserved for images up to 1 MiB, so that a few slow large uploads do not block them."""

PRESIGNED_S: Final = 300
"""Seconds for which a redirect without a public URL works: time to follow it, not to share it."""

_MAX_LOCATIONS: Final = 4096
"""Locations cached; about 10 MiB at most, since a quoted key has up to 3 KiB."""

_CHECK_S: Final = 5.0
"""Deadline of the readiness check, in seconds, in case the bucket does not respond."""

_CHECK_HOLDS_S: Final = 2.0
"""Seconds for which a successful check is reused, since R2 bills each one (class B)."""

log = logging.getLogger("stillroom.r2")


class R2ImageStorage:
    """`ImageStorage` in a bucket.

    Everything waits for the network, so everything runs on the event loop, except the hashing of
    large pieces. docs/r2.md counts all requests.

    Attributes:
        skipped_keys: Number of keys left out of listings because no image can have them.
    """

    def __init__(
        self,
        store: ObjectStore,
        rules: SaveRules,
        *,
        description: str,
        public_url: str | None,
        cache_control: str,
        check_exists: bool = True,
        changes: ChangeObserver = UNWATCHED,
    ) -> None:
        """Serve images from the bucket `store`.

        Args:
            store: The bucket; closed with this storage.
            rules: Rules for saves.
            description: One line for the log.
            public_url: URL of the CDN, to which keys are appended; without it, URLs are presigned.
            cache_control: Cache policy stored with every image, for the CDN and browsers.
            check_exists: Check that an image exists before redirecting: no CDN shall cache a 404.
            changes: Observer of saves, copies and deletions.

        Raises:
            ConfigurationError: images may be larger than a bucket can store.
        """
        if rules.max_bytes > MAX_PARTS * PART_BYTES:
            raise ConfigurationError(
                f"STILLROOM_MAX_UPLOAD_BYTES: a bucket takes at most {MAX_PARTS * PART_BYTES} "
                "bytes in parts of 16 MiB"
            )
        self.description = f"R2ImageStorage in {description}"
        self.skipped_keys = 0
        self._store = store
        self._public_url = public_url
        self._cache_control = cache_control
        self._check_exists = check_exists
        self._changes = changes
        self._large = MemoryBudget(BUFFERED_BYTES - _RESERVED_FOR_SMALL_BYTES)
        self._small = MemoryBudget(_RESERVED_FOR_SMALL_BYTES)
        self._locks = KeyLocks()
        self._existence = ExistenceCache()
        self._locations: dict[str, RemoteImage] = {}
        self._locations_second = 0
        self._checked_until = 0.0
        self._entry_slots = asyncio.Semaphore(MAX_CONCURRENT_HEADS)
        self._abandoned = AbandonedUploads(store)
        self._conditions = Conditions(store, self._abandoned)
        self._order = ListingOrder()
        # Not the loop's own pool: name look-ups run there, and they hang with the network.
        self._hashing = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="hash")
        self._uploads = UploadContext(
            store,
            rules,
            self._conditions,
            self._abandoned,
            self._locks,
            self._existence,
            self._hashing,
            self._cache_of,
        )

    # Saving ------------------------------------------------------------------------------

    async def save(
        self, key: StorageKey, source: ImageSource, condition: Condition = UNCONDITIONAL
    ) -> StoredImage:
        """Send an image that fits into a part in one request, and others in equal parts."""
        guard = await self._admit(key, source.max_bytes, condition)
        if guard is not None:
            large = source.max_bytes is not None and source.max_bytes > PART_BYTES
            await self._conditions.require(guard, in_parts=large)
        upload = Upload(self._uploads, key, source, condition, guard)
        part_bytes = PART_BYTES if source.max_bytes is None else min(source.max_bytes, PART_BYTES)
        async with self._budget_for(part_bytes).reserve(
            part_bytes, wait_s=DEADLINE_S
        ) as reservation:
            part = PartBuffer(part_bytes)
            try:
                async for chunk in source:
                    upload.checks.count(chunk)
                    rest = memoryview(chunk)
                    while rest := part.fill(rest):
                        await upload.send(part)
                        part = PartBuffer(PART_BYTES)  # a socket may still use the previous one
                if not upload.in_parts:
                    reservation.shrink(len(part))
                    image = await upload.put(part.contents())
                else:
                    image = await upload.complete(part)
            except BaseException:
                upload.abort()
                raise
        self._changes.saved(image, upload.checks.passed())
        return image

    def _budget_for(self, size: int) -> MemoryBudget:
        """Choose the budget of small images, or that of large ones if only that one has room."""
        if size > _SMALL_BYTES or (not self._small.has_room(size) and self._large.has_room(size)):
            return self._large
        return self._small

    async def _admit(
        self, key: StorageKey, max_bytes: int | None, condition: Condition
    ) -> Guard | None:
        """Refuse a save that is known to fail before the first byte is read.

        Returns the guard by which the bucket itself enforces `condition`.
        """
        if not condition.is_set:
            return None
        if condition.create_only and max_bytes is not None and max_bytes <= PART_BYTES:
            return IF_ABSENT  # the bucket checks it; asking first would cost a request
        return await guard_for(self._store, key.text, condition)

    def _cache_of(self, key: StorageKey) -> str:
        return IMMUTABLE_CACHE if key.is_media else self._cache_control

    # Reading -----------------------------------------------------------------------------

    async def locate(self, key: StorageKey) -> RemoteImage:
        """Return the CDN's URL or a presigned one, after checking that the image exists."""
        if self._check_exists and key.text not in self._existence:
            await self._fetch_facts(key)
        location = self._location_of(key)
        return dataclasses.replace(location, content_type=self._existence.content_type(key.text))

    def locate_now(
        self,
        key: StorageKey,
        known: StoredImage | None = None,  # noqa: ARG002  (the port's signature)
    ) -> RemoteImage | None:
        """Return the URL if the image was seen recently, or if existence is not checked."""
        if self._check_exists and key.text not in self._existence:
            return None
        return self._location_of(key)

    def is_current(self, image: StoredImage) -> bool:  # noqa: ARG002  (the port's signature)
        """Return False: only the bucket knows."""
        return False

    def read_now(self, image: StoredImage, start: int, into: memoryview) -> bool:  # noqa: ARG002  (the port's signature)
        """Return False: only the bucket has the bytes."""
        return False

    def is_missing(self, key: StorageKey) -> bool:  # noqa: ARG002  (the port's signature)
        """Return False: only the bucket knows."""
        return False

    def _location_of(self, key: StorageKey) -> RemoteImage:
        """Return the cached location, which is valid for one second if its URL is presigned."""
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
        """Read the object's head. Reading then costs a GET for every 4 MiB."""
        return ObjectImage(self._store, await fetch_facts(self._store, key, deadline=None))

    async def stat(self, key: StorageKey) -> StoredImage:
        """Return the image's facts by a HEAD request, which is never cached."""
        return await self._fetch_facts(key)

    async def _fetch_facts(self, key: StorageKey, deadline: float | None = None) -> StoredImage:
        moment = self._existence.moment
        image = await fetch_facts(self._store, key, deadline=deadline)
        self._existence.note(key.text, image.content_type, moment)
        return image

    async def list(self, query: ListQuery) -> Page:
        """List a page in the bucket's order: by whole keys on R2, by folders on SeaweedFS."""
        page, skipped = await list_page(self._store, query, self._order)
        if skipped:
            self.skipped_keys += skipped
            log.warning(
                "a listing below %r leaves out %d keys that no image can have",
                query.prefix.text,
                skipped,
            )
        return page

    async def entries(self, query: ListQuery) -> EntryPage:
        """List a page of images with their facts, by one HEAD for each."""
        return await describe_page(await self.list(query), self._fetch_facts, self._entry_slots)

    # Removing ----------------------------------------------------------------------------

    async def delete(
        self,
        key: StorageKey,
        condition: Condition = UNCONDITIONAL,
        *,
        save_id: str | None = None,
    ) -> None:
        """Check existence and condition by a HEAD, and delete the object directly after it.

        If the bucket supports conditional deletion, an image that another process saves in
        between is kept, unless it has the same bytes and so the same ETag. Otherwise it is deleted
        too. With `save_id` the deletion is sent only once, which keeps that interval short.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        began_ns = time.time_ns()
        once = save_id is not None
        guarded = (once or condition.is_set) and await self._conditions.guards_deletions()
        async with self._locks.hold(key.text, deadline=deadline):
            for _ in range(GUARD_ATTEMPTS):
                image = await fetch_facts(self._store, key, deadline=deadline)
                condition.check(image.etag)
                if save_id not in (None, image.save_id):
                    raise PreconditionFailed
                guard = Guard(image.etag) if guarded else None
                try:
                    deleted = await self._store.delete(
                        key.text, guard=guard, deadline=deadline, once=once
                    )
                finally:
                    self._existence.forget(key.text)
                if deleted.refusal is None:
                    self._changes.removed(key, began_ns)
                    return
                if deleted.doubtful and deleted.refusal is Refusal.MISSING:
                    self._changes.removed(key, began_ns)
                    return  # deleted by the attempt whose response was lost
                if deleted.doubtful:
                    raise BackendUnavailable("the connection broke off: the outcome is unknown")
        raise BackendUnavailable("the image is replaced again and again while it is deleted")

    # Copying -----------------------------------------------------------------------------

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> StoredImage:
        """Copy within the bucket, if the source is still the same save.

        Properties are written anew: otherwise the copy would keep the source's save id and an old
        cache policy.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._locks.hold(target.text, deadline=deadline):
            for _ in range(GUARD_ATTEMPTS):
                original = await fetch_facts(self._store, source, deadline=deadline)
                if save_id not in (None, original.save_id):
                    raise PreconditionFailed
                copied_id = secrets.token_hex(16)
                properties = properties_of(
                    original.content_type,
                    cache_control=self._cache_of(target),
                    save_id=copied_id,
                    sha256=original.sha256,
                )
                written = await self._store.copy(
                    source.text, original.etag, target.text, properties, deadline=deadline
                )
                if written.etag is not None:
                    self._existence.note(target.text, original.content_type, self._existence.moment)
                    image = dataclasses.replace(
                        original,
                        key=target,
                        etag=written.etag,
                        modified_ns=time.time_ns(),
                        save_id=copied_id,
                    )
                    self._changes.copied(image, original)
                    return image
                if written.refusal is Refusal.MISSING and written.doubtful:
                    raise BackendUnavailable("the connection broke off: the outcome is unknown")
                if written.refusal is Refusal.MISSING:  # deleted after the HEAD
                    raise ImageNotFound
        raise BackendUnavailable("the image is replaced again and again while it is copied")

    # Running -----------------------------------------------------------------------------

    async def check(self) -> None:
        """Check that the bucket can be read and written; a success is reused for two seconds."""
        now = asyncio.get_running_loop().time()
        if now < self._checked_until:
            return
        await self._store.check(writing=True, deadline=now + _CHECK_S)
        self._checked_until = now + _CHECK_HOLDS_S

    async def lacking_conditions(self) -> Sequence[Limitation]:
        """Probe conditions by a few writes to an object made for it; see `conditions.py`."""
        return await self._conditions.find_limitations()

    async def lacking_order(self) -> Sequence[Limitation]:
        """Probe the order by listing a few objects made for it; see `order.py`."""
        return await probe_order(self._store)

    async def close(self) -> None:
        """Finish running aborts and close the connections; the storage may be used again.

        The hashing threads end with this object.
        """
        await self._conditions.close()
        await self._abandoned.close()
        await self._store.close()
        self._entry_slots = asyncio.Semaphore(MAX_CONCURRENT_HEADS)  # for another event loop
