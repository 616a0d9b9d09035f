"""R2ImageStorage: images as objects, saved in one request where they fit, served by a CDN."""

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
from stillroom.storage.bucket.entries import LOOKS_AT_ONCE, described
from stillroom.storage.bucket.existence_cache import ExistenceCache
from stillroom.storage.bucket.image import ObjectImage
from stillroom.storage.bucket.limits import KeyLocks, MemoryBudget
from stillroom.storage.bucket.listing import list_page
from stillroom.storage.bucket.multipart import MAX_PARTS, PART_BYTES
from stillroom.storage.bucket.objects import look, properties_of
from stillroom.storage.bucket.order import ListingOrder, lacking_order
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
"""What all uploads together may hold in memory: seven parts, or more of smaller images."""

IMMUTABLE_CACHE: Final = "public, max-age=31536000, immutable"
"""Of the media library's objects: a year, and not asked for again (RFC 8246)."""

_SMALL_BYTES: Final = 1024**2
_KEPT_FOR_SMALL_BYTES: Final = 16 * 1024**2
"""A share that images up to 1 MiB have to themselves: a few slow large uploads stop no others."""

PRESIGNED_S: Final = 300
"""How long a redirect without a public URL works: time to follow it, not to pass it on."""

_MAX_LOCATIONS: Final = 4096
"""Locations remembered; some 10 MiB at most, since a quoted key has up to 3 KiB."""

_CHECK_S: Final = 5.0
"""A readiness check must answer while the bucket does not."""

_CHECK_HOLDS_S: Final = 2.0
"""Probes that come more often cost no operation: they are R2's class B, paid for."""

log = logging.getLogger("stillroom.r2")


class R2ImageStorage:
    """Keeps the promises of `ImageStorage` in a bucket.

    Everything waits for the network, so everything runs on the event loop, but for
    hashing large pieces. No request is sent but those that docs/r2.md counts.

    Attributes:
        skipped_keys: Keys left out of listings so far, since no image can have them.
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
        """Serve images from the bucket that is `store`.

        Args:
            store: Closed with this storage.
            rules: What every save must keep to.
            description: One line for the log.
            public_url: What the CDN puts in front of keys; without it URLs are presigned.
            cache_control: Stored with every image; the CDN and browsers obey it.
            check_exists: Ask before redirecting, so that no CDN remembers a 404.
            changes: Hears of each save and each deletion.

        Raises:
            ConfigurationError: images may be larger than a bucket can take.
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
        self._large = MemoryBudget(BUFFERED_BYTES - _KEPT_FOR_SMALL_BYTES)
        self._small = MemoryBudget(_KEPT_FOR_SMALL_BYTES)
        self._locks = KeyLocks()
        self._existence = ExistenceCache()
        self._locations: dict[str, RemoteImage] = {}
        self._locations_made_at = 0
        self._checked_until = 0.0
        self._entry_slots = asyncio.Semaphore(LOOKS_AT_ONCE)
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
        """One hashed request for what fits into a part, else equal parts."""
        guard = await self._admit(key, source.max_bytes, condition)
        if guard is not None:
            large = source.max_bytes is not None and source.max_bytes > PART_BYTES
            await self._conditions.demand(guard, in_parts=large)
        upload = Upload(self._uploads, key, source, condition, guard)
        most = PART_BYTES if source.max_bytes is None else min(source.max_bytes, PART_BYTES)
        async with self._budget_for(most).reserve(most, wait_s=DEADLINE_S) as held:
            part = PartBuffer(most)
            try:
                async for chunk in source:
                    upload.checks.count(chunk)
                    rest = memoryview(chunk)
                    while rest := part.take(rest):
                        await upload.send(part)
                        part = PartBuffer(PART_BYTES)  # a socket may still hold on to the sent one
                if not upload.in_parts:
                    held.shrink(len(part))
                    image = await upload.put(part.contents())
                else:
                    image = await upload.complete(part)
            except BaseException:
                upload.abort()
                raise
        self._changes.saved(image, upload.checks.passed())
        return image

    def _budget_for(self, size: int) -> MemoryBudget:
        """Small images have a share of their own, and what large ones do not want besides."""
        if size > _SMALL_BYTES or (not self._small.has_room(size) and self._large.has_room(size)):
            return self._large
        return self._small

    async def _admit(
        self, key: StorageKey, max_bytes: int | None, condition: Condition
    ) -> Guard | None:
        """Refuse what can be known to fail before the first byte is read.

        Returns:
            What makes the bucket itself hold to `condition` in the end.
        """
        if not condition.is_set:
            return None
        if condition.create_only and max_bytes is not None and max_bytes <= PART_BYTES:
            return IF_ABSENT  # the bucket will say; asking first would cost a request
        return await guard_for(self._store, key.text, condition)

    def _cache_of(self, key: StorageKey) -> str:
        return IMMUTABLE_CACHE if key.is_media else self._cache_control

    # Reading -----------------------------------------------------------------------------

    async def locate(self, key: StorageKey) -> RemoteImage:
        """The CDN's URL, or a presigned one; never before the image is known to be there."""
        if self._check_exists and key.text not in self._existence:
            await self._look_and_note(key)
        location = self._location_of(key)
        return dataclasses.replace(location, content_type=self._existence.content_type(key.text))

    def locate_now(
        self,
        key: StorageKey,
        known: StoredImage | None = None,  # noqa: ARG002  (the port's signature)
    ) -> RemoteImage | None:
        """The same for an image that was there a moment ago, or if existence is not checked."""
        if self._check_exists and key.text not in self._existence:
            return None
        return self._location_of(key)

    def is_current(self, image: StoredImage) -> bool:  # noqa: ARG002  (the port's signature)
        """Only the bucket knows."""
        return False

    def read_now(self, image: StoredImage, start: int, into: memoryview) -> bool:  # noqa: ARG002  (the port's signature)
        """Only the bucket has the bytes."""
        return False

    def is_missing(self, key: StorageKey) -> bool:  # noqa: ARG002  (the port's signature)
        """Only the bucket knows."""
        return False

    def _location_of(self, key: StorageKey) -> RemoteImage:
        """Remembered for as long as it would come out the same: a presigned URL for its second."""
        second = int(time.time()) if self._public_url is None else 0
        if second != self._locations_made_at or len(self._locations) >= _MAX_LOCATIONS:
            self._locations.clear()
            self._locations_made_at = second
        location = self._locations.get(key.text)
        if location is None:
            location = self._locations[key.text] = RemoteImage(self._url(key.text))
        return location

    def _url(self, key: str) -> str:
        if self._public_url is None:
            return self._store.presigned_url(key, valid_for_s=PRESIGNED_S)
        return f"{self._public_url}/{quote(key, safe='/')}"

    async def open(self, key: StorageKey) -> ObjectImage:
        """One HEAD; reading then costs a GET for every 4 MiB."""
        return ObjectImage(self._store, await look(self._store, key, deadline=None))

    async def stat(self, key: StorageKey) -> StoredImage:
        """The facts of one HEAD, asked for each time."""
        return await self._look_and_note(key)

    async def _look_and_note(self, key: StorageKey, deadline: float | None = None) -> StoredImage:
        moment = self._existence.moment
        image = await look(self._store, key, deadline=deadline)
        self._existence.note(key.text, image.content_type, moment)
        return image

    async def list(self, query: ListQuery) -> Page:
        """A page in the order of the bucket: whole keys on R2, the tree's on SeaweedFS."""
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
        """A page, and a HEAD for each image on it."""
        return await described(await self.list(query), self._look_and_note, self._entry_slots)

    # Removing ----------------------------------------------------------------------------

    async def delete(
        self,
        key: StorageKey,
        condition: Condition = UNCONDITIONAL,
        *,
        save_id: str | None = None,
    ) -> None:
        """A look, for the 404 and the condition, and directly after it the deletion.

        Where the bucket deletes on condition of an ETag, what another process saves in between
        stays, unless it has the same bytes, and so the same ETag. Where it does not, that is
        deleted, too. For one very save the deletion is sent once, so that nothing comes between
        but its own way.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        began_ns = time.time_ns()
        once = save_id is not None
        guarded = (once or condition.is_set) and await self._conditions.guards_deletions()
        async with self._locks.hold(key.text, deadline=deadline):
            for _ in range(GUARD_ATTEMPTS):
                found = await look(self._store, key, deadline=deadline)
                condition.check(found.etag)
                if save_id not in (None, found.save_id):
                    raise PreconditionFailed
                guard = Guard(found.etag) if guarded else None
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
                    return  # by the attempt that had no answer
                if deleted.doubtful:
                    raise BackendUnavailable("the connection broke off: the outcome is unknown")
        raise BackendUnavailable("the image is replaced again and again while it is deleted")

    # Copying -----------------------------------------------------------------------------

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> StoredImage:
        """Within the bucket, of the very save that was looked at.

        With properties of its own: else the copy would keep the save id, and a cache policy of
        long ago.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._locks.hold(target.text, deadline=deadline):
            for _ in range(GUARD_ATTEMPTS):
                found = await look(self._store, source, deadline=deadline)
                if save_id not in (None, found.save_id):
                    raise PreconditionFailed
                copied_id = secrets.token_hex(16)
                properties = properties_of(
                    found.content_type,
                    cache_control=self._cache_of(target),
                    save_id=copied_id,
                    sha256=found.sha256,
                )
                written = await self._store.copy(
                    source.text, found.etag, target.text, properties, deadline=deadline
                )
                if written.etag is not None:
                    self._existence.note(target.text, found.content_type, self._existence.moment)
                    image = dataclasses.replace(
                        found,
                        key=target,
                        etag=written.etag,
                        modified_ns=time.time_ns(),
                        save_id=copied_id,
                    )
                    self._changes.copied(image, found)
                    return image
                if written.refusal is Refusal.MISSING and written.doubtful:
                    raise BackendUnavailable("the connection broke off: the outcome is unknown")
                if written.refusal is Refusal.MISSING:  # it went away after the look
                    raise ImageNotFound
        raise BackendUnavailable("the image is replaced again and again while it is copied")

    # Running -----------------------------------------------------------------------------

    async def check(self) -> None:
        """Whether the bucket can be read and written; a good answer holds for two seconds."""
        now = asyncio.get_running_loop().time()
        if now < self._checked_until:
            return
        await self._store.check(writing=True, deadline=now + _CHECK_S)
        self._checked_until = now + _CHECK_HOLDS_S

    async def lacking_conditions(self) -> Sequence[Limitation]:
        """By a few writes to an object of our own; see `conditions.py`."""
        return await self._conditions.lacking()

    async def lacking_order(self) -> Sequence[Limitation]:
        """By a listing of a few objects of our own; see `order.py`."""
        return await lacking_order(self._store)

    async def close(self) -> None:
        """Finish the aborts under way, then close the connections; it may be used again.

        The threads that hash end with this object.
        """
        await self._conditions.close()
        await self._abandoned.close()
        await self._store.close()
        self._entry_slots = asyncio.Semaphore(LOOKS_AT_ONCE)  # perhaps in another event loop
