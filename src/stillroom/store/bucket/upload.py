"""Upload of one image to a bucket: in one request if it is small, otherwise in equal parts."""

import asyncio
import concurrent.futures
import hashlib
import mmap
import secrets
import time
from collections.abc import Callable
from typing import Final, TypeVar

from stillroom.errors import BackendUnavailable, PreconditionFailed
from stillroom.paths import StorageKey
from stillroom.store.bucket.abandoned_uploads import AbandonedUploads
from stillroom.store.bucket.conditions import Conditions, guard_for
from stillroom.store.bucket.existence_cache import ExistenceCache
from stillroom.store.bucket.limits import KeyLocks
from stillroom.store.bucket.multipart import MultipartUpload
from stillroom.store.bucket.objects import SAVE_ID_FIELD, properties_of
from stillroom.store.objectstore import DEADLINE_S, Guard, ObjectStore, Properties
from stillroom.store.sources import DescribedSource, ImageSource
from stillroom.store.upload_checks import Received, UploadChecks
from stillroom.store.values import Condition, SaveRules, StoredImage

GUARD_ATTEMPTS: Final = 4  # of a change, if other writers replace the image at the same time
_HASHED_INLINE_BYTES: Final = 128 * 1024  # hashed on the event loop (0.1 ms, like a thread switch)

_HEAP_BYTES: Final = 1024**2
"""Maximum size of a buffer on the heap, which reuses memory. With mmap, 100 KB would cost 90 µs.
The memory budget for small images limits the total size of these buffers."""

T = TypeVar("T")


class PartBuffer:
    """A buffer with a fixed capacity for incoming bytes.

    A large buffer uses mmap: unwritten pages use no memory, and all pages are released with the
    buffer. A growing buffer on the heap would use up to twice its size.
    """

    def __init__(self, most: int) -> None:
        self._memory = bytearray(most) if most <= _HEAP_BYTES else mmap.mmap(-1, most)
        self._most = most
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def fill(self, data: memoryview) -> memoryview:
        """Append the beginning of `data`, as much as fits, and return the rest."""
        head = data[: self._most - self._size]
        self._memory[self._size : self._size + len(head)] = head
        self._size += len(head)
        return data[len(head) :]

    def contents(self) -> memoryview:
        """Return the bytes added so far. The view is valid until the next call of `fill`."""
        return memoryview(self._memory)[: self._size]


class UploadContext:
    """Objects that all uploads to one bucket share."""

    def __init__(
        self, store: ObjectStore, rules: SaveRules, cache_control: Callable[[StorageKey], str]
    ) -> None:
        """Use `cache_control` to get the `Cache-Control` value for a key."""
        self.store, self.rules, self.cache_control = store, rules, cache_control
        self.abandoned = AbandonedUploads(store)
        self.conditions = Conditions(store, self.abandoned)
        self.locks = KeyLocks()
        self.existence = ExistenceCache()
        # Not the loop's default pool: DNS lookups run there, and can block its threads.
        self.hashing = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="hash")


class Upload:
    """An upload of one image. The caller must pass every chunk to `checks.count`."""

    def __init__(
        self,
        context: UploadContext,
        key: StorageKey,
        source: ImageSource,
        condition: Condition,
        guard: Guard | None,
    ) -> None:
        self.checks = UploadChecks(context.rules, source)
        self._context, self._store = context, context.store
        self._key, self._source = key, source
        self._condition, self._guard = condition, guard
        save_id = source.save_id if isinstance(source, DescribedSource) else None
        self._save_id = save_id or secrets.token_hex(16)
        self._parts: MultipartUpload | None = None

    @property
    def in_parts(self) -> bool:
        """True if a part was already sent. Then the rest must be sent in parts, too."""
        return self._parts is not None

    async def put(self, body: memoryview) -> StoredImage:
        """Store the whole image in one request, and return its metadata."""
        if len(body) > _HASHED_INLINE_BYTES:
            await self._hash(self.checks.digest, body)
        else:
            self.checks.digest(body)
        received = self.checks.finish(self._source.expected_sha256)
        properties = self._properties(received.content_type, received.sha256)
        key, guard = self._key.text, self._guard
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._context.locks.hold(key, deadline=deadline):
            for _ in range(GUARD_ATTEMPTS):
                written = await self._store.put(
                    key, body, received.sha256.hex(), properties, guard=guard, deadline=deadline
                )
                if written.etag is not None:
                    return self._record(received, written.etag)
                if written.doubtful:
                    return await self._recover(received, deadline)
                if self._condition.create_only:
                    raise PreconditionFailed
                guard = await guard_for(self._store, key, self._condition, deadline=deadline)
                await self._context.conditions.require(guard)
        raise BackendUnavailable("the image kept changing during the save: try again")

    async def send(self, part: PartBuffer) -> MultipartUpload:
        """Send the next part. It is hashed twice: for the image, and for the signature."""
        if self._parts is None:
            await self._context.conditions.require(self._guard, in_parts=True)
            sha256 = self._source.expected_sha256  # the computed hash is known only at the end
            properties = self._properties(self.checks.content_type, sha256)
            self._parts = await MultipartUpload.begin(
                self._store, self._key.text, properties, self._context.abandoned
            )
        body = part.contents()
        await self._parts.send(body, await self._hash(self._hash_twice, body))
        return self._parts

    async def complete(self, part: PartBuffer) -> StoredImage:
        """Send the last part, complete the upload, and return the saved image."""
        parts = await self.send(part)
        received = self.checks.finish(self._source.expected_sha256)
        key = self._key.text
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._context.locks.hold(key, deadline=deadline):
            written = await parts.complete(self._guard, deadline=deadline)
            if written.etag is not None:
                return self._record(received, written.etag)
            if written.doubtful:
                return await self._recover(received, deadline)
            if self._guard is not None:
                await guard_for(self._store, key, self._condition, deadline=deadline)
        # R2 deletes the upload if the condition fails, so a retry is impossible.
        raise BackendUnavailable(
            "the image was replaced, or the bucket ended the upload, during the save: save it again"
        )

    def abort(self) -> None:
        """Start to delete the parts that were sent so far. Does not wait."""
        if self._parts is not None:
            self._context.abandoned.abort(self._parts.key, self._parts.upload_id)

    def _properties(self, kind: str, sha256: bytes | None) -> Properties:
        cache_control, mtime_ns = self._context.cache_control(self._key), self.checks.modified_ns
        return properties_of(
            kind, sha256, save_id=self._save_id, cache_control=cache_control, mtime_ns=mtime_ns
        )

    async def _recover(self, received: Received, deadline: float) -> StoredImage:
        """Return the image if it was saved although the response was lost, else raise an error."""
        unknown = (
            "the connection to the bucket was interrupted during the save: the outcome is unknown, "
            "so save the image again"
        )
        try:
            head = await self._store.head(self._key.text, deadline=deadline)
        except BackendUnavailable as error:
            raise BackendUnavailable(unknown) from error
        if head is None or head.metadata.get(SAVE_ID_FIELD) != self._save_id:
            raise BackendUnavailable(unknown)
        return self._record(received, head.etag)

    def _record(self, received: Received, etag: str) -> StoredImage:
        existence = self._context.existence
        existence.note(self._key.text, received.content_type, existence.moment)
        return StoredImage(
            key=self._key,
            size=received.size,
            etag=etag,
            modified_ns=time.time_ns(),
            content_type=received.content_type,
            sha256=received.sha256,
            save_id=self._save_id,
        )

    async def _hash(self, job: Callable[[memoryview], T], body: memoryview) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._context.hashing, job, body)

    def _hash_twice(self, part: memoryview) -> str:
        self.checks.digest(part)
        return hashlib.sha256(part).hexdigest()
