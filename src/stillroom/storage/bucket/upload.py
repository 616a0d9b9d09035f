"""One upload into a bucket: sent in one request where it fits, else in equal parts."""

import asyncio
import concurrent.futures
import functools
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from stillroom.errors import BackendUnavailable, ImageNotFound, PreconditionFailed
from stillroom.paths import StorageKey
from stillroom.storage.bucket.abandoned_uploads import AbandonedUploads
from stillroom.storage.bucket.buffer import PartBuffer
from stillroom.storage.bucket.conditions import Conditions, guard_for
from stillroom.storage.bucket.existence_cache import ExistenceCache
from stillroom.storage.bucket.limits import KeyLocks
from stillroom.storage.bucket.multipart import MultipartUpload
from stillroom.storage.bucket.objects import look, properties_of
from stillroom.storage.objectstore import DEADLINE_S, Guard, ObjectStore, Properties
from stillroom.storage.sources import DescribedSource, ImageSource
from stillroom.storage.upload_checks import Received, UploadChecks
from stillroom.storage.values import Condition, SaveRules, StoredImage

GUARD_ATTEMPTS: Final = 4
"""Another writer may replace the image between looking at it and replacing it."""

_HASHED_INLINE_BYTES: Final = 128 * 1024
"""Less takes under 0.1 ms, about what a hop to a thread and back costs."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UploadContext:
    """What all uploads into one bucket share.

    Attributes:
        hashing: Threads for large pieces.
        cache_control: What caches are told about the image under a key.
    """

    store: ObjectStore
    rules: SaveRules
    conditions: Conditions
    abandoned: AbandonedUploads
    locks: KeyLocks
    existence: ExistenceCache
    hashing: concurrent.futures.Executor
    cache_control: Callable[[StorageKey], str]


class Upload:
    """An image while it comes in, from the first byte to its facts.

    Attributes:
        checks: Told of every chunk by the caller, which cuts the parts.
    """

    def __init__(
        self,
        context: UploadContext,
        key: StorageKey,
        source: ImageSource,
        condition: Condition,
        guard: Guard | None,
    ) -> None:
        """Save `source` under `key`; `guard` makes the bucket itself hold to `condition`."""
        known = source if isinstance(source, DescribedSource) else DescribedSource()
        self.checks = UploadChecks(known.rules or context.rules, known.content_type)
        self._modified_ns = known.modified_ns
        self._context = context
        self._store = context.store
        self._key = key
        self._source = source
        self._condition = condition
        self._guard = guard
        self._save_id = secrets.token_hex(16)
        self._parts: MultipartUpload | None = None

    @property
    def in_parts(self) -> bool:
        """Whether a part was sent already, so that the rest must be parts, too."""
        return self._parts is not None

    async def put(self, body: memoryview) -> StoredImage:
        """Store all of it in one request.

        Raises:
            PreconditionFailed, EmptyFile, DigestMismatch, UnsupportedMedia, ConditionUnsupported,
            BackendUnavailable: as their names say.
        """
        if len(body) > _HASHED_INLINE_BYTES:
            await self._run(self.checks.digest, body)
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
                    return self._described(received, written.etag)
                if written.doubtful:
                    return await self._find_out(received, deadline)
                if self._condition.create_only:
                    raise PreconditionFailed
                guard = await guard_for(self._store, key, self._condition, deadline=deadline)
                await self._context.conditions.demand(guard)
        raise BackendUnavailable("the image is replaced again and again while it is saved")

    async def send(self, part: PartBuffer) -> MultipartUpload:
        """Send the next part, hashed into the whole, and by itself for its signature.

        Raises:
            ConditionUnsupported, BackendUnavailable: as their names say.
        """
        if self._parts is None:
            self._parts = await self._begin()
        body = part.contents()
        await self._parts.send(body, await self._run(_hash_twice, self.checks, body))
        return self._parts

    async def _begin(self) -> MultipartUpload:
        await self._context.conditions.demand(self._guard, in_parts=True)
        sha256 = self._source.expected_sha256  # ours is known only when it is too late
        properties = self._properties(self.checks.content_type, sha256)
        return await MultipartUpload.begin(
            self._store, self._key.text, properties, self._context.abandoned
        )

    async def complete(self, part: PartBuffer) -> StoredImage:
        """Send the last part, and make all of them an image.

        Raises:
            PreconditionFailed, DigestMismatch, UnsupportedMedia, BackendUnavailable: as their
            names say.
        """
        parts = await self.send(part)
        received = self.checks.finish(self._source.expected_sha256)
        key = self._key.text
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._context.locks.hold(key, deadline=deadline):
            written = await parts.complete(self._guard, deadline=deadline)
            if written.etag is not None:
                return self._described(received, written.etag)
            if written.doubtful:
                return await self._find_out(received, deadline)
            if self._guard is not None:
                await guard_for(self._store, key, self._condition, deadline=deadline)
        # R2 ends the upload when a condition fails, so it cannot be tried against the new state.
        raise BackendUnavailable("the image was replaced, or the upload ended, while it was saved")

    def abort(self) -> None:
        """Throw away what was sent, in the background: a client waits for its refusal only."""
        if self._parts is not None:
            self._context.abandoned.abort(self._parts.key, self._parts.upload_id)

    def _properties(self, kind: str, sha256: bytes | None) -> Properties:
        return properties_of(
            kind,
            cache_control=self._context.cache_control(self._key),
            save_id=self._save_id,
            sha256=sha256,
            modified_ns=self._modified_ns,
        )

    async def _find_out(self, received: Received, deadline: float) -> StoredImage:
        """Whose save refused ours, when one of our own attempts has had no answer?

        Raises:
            BackendUnavailable: not ours, or none can be seen; whether ours was there is unknown.
        """
        unknown = "the connection broke off: the outcome is unknown"
        try:
            found = await look(self._store, self._key, deadline=deadline)
        except ImageNotFound:
            found = None
        except BackendUnavailable as error:
            raise BackendUnavailable(unknown) from error
        if found is None or found.save_id != self._save_id:
            raise BackendUnavailable(unknown)
        return self._described(received, found.etag)

    def _described(self, received: Received, etag: str) -> StoredImage:
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

    async def _run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        hashing = self._context.hashing
        return await loop.run_in_executor(hashing, functools.partial(job, *args, **kwargs))


def _hash_twice(checks: UploadChecks, part: memoryview) -> str:
    checks.digest(part)
    return hashlib.sha256(part).hexdigest()
