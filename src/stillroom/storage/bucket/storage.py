"""R2ImageStorage: images as objects, saved in one request where they fit, served by a CDN."""

import asyncio
import concurrent.futures
import dataclasses
import functools
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar
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
from stillroom.storage.bucket.conditions import Conditions
from stillroom.storage.bucket.entries import Describer
from stillroom.storage.bucket.existence_cache import ExistenceCache
from stillroom.storage.bucket.image import ObjectImage
from stillroom.storage.bucket.limits import KeyLocks, MemoryBudget
from stillroom.storage.bucket.listing import list_page
from stillroom.storage.bucket.multipart import (
    MAX_PARTS,
    PART_BYTES,
    MultipartUpload,
    completed_etag,
)
from stillroom.storage.bucket.objects import etag_of, headers_of, image_of
from stillroom.storage.s3.client import DEADLINE_S, BucketClient, Call
from stillroom.storage.sources import ImageSource, ImportedImage
from stillroom.storage.upload_checks import Received, UploadChecks
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

_MAX_PLACES: Final = 4096
"""Locations remembered; some 10 MiB at most, since a quoted key has up to 3 KiB."""

_HASHED_INLINE_BYTES: Final = 128 * 1024
"""Less takes under 0.1 ms, about what a hop to a thread and back costs."""

_GUARD_ATTEMPTS: Final = 4
"""Another writer may replace the image between looking at it and replacing it."""

_CHECK_S: Final = 5.0
"""A readiness check must answer while the bucket does not."""

_CHECK_HOLDS_S: Final = 2.0
"""Probes that come more often cost no operation: they are R2's class B, paid for."""

_CHECKED_KEY: Final = ".stillroom/check"
"""Nothing is ever saved there: no image path leads out of `compute/`."""

_CHECKED_UPLOAD: Final = "0" * 32
_NO_SUCH_UPLOAD: Final = frozenset((400, 404, 405, 409, 501))

_MISSING: Final = frozenset((404,))
_CONDITION_FAILED: Final = frozenset((404, 412))
"""S3 answers If-Match on a missing object with 404."""

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("stillroom.r2")


@dataclass(frozen=True, slots=True)
class _Upload:
    """What belongs together while one image comes in."""

    key: StorageKey
    source: ImageSource
    condition: Condition
    checks: UploadChecks
    save_id: str


class R2ImageStorage:
    """Keeps the promises of `ImageStorage` in a bucket.

    Everything waits for the network, so everything runs on the event loop, but for
    hashing large pieces. No request is sent but those that docs/r2.md counts.

    Attributes:
        skipped_keys: Keys left out of listings so far, since no image can have them.
    """

    def __init__(
        self,
        client: BucketClient,
        rules: SaveRules,
        *,
        description: str,
        public_url: str | None,
        cache_control: str,
        check_exists: bool = True,
    ) -> None:
        """Serve images from the bucket of `client`.

        Args:
            client: Closed with this storage.
            rules: What every save must keep to.
            description: One line for the log.
            public_url: What the CDN puts in front of keys; without it URLs are presigned.
            cache_control: Stored with every image; the CDN and browsers obey it.
            check_exists: Ask before redirecting, so that no CDN remembers a 404.

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
        self._client = client
        self._rules = rules
        self._public_url = public_url
        self._cache_control = cache_control
        self._check_exists = check_exists
        self._large = MemoryBudget(BUFFERED_BYTES - _KEPT_FOR_SMALL_BYTES)
        self._small = MemoryBudget(_KEPT_FOR_SMALL_BYTES)
        self._locks = KeyLocks()
        self._seen = ExistenceCache()
        self._places: dict[str, RemoteImage] = {}
        self._places_at = 0
        self._checked_until = 0.0
        self._describer = Describer(self._look_and_note)
        self._leftovers = AbandonedUploads(client)
        self._conditions = Conditions(client, self._leftovers)
        # Not the loop's own pool: name look-ups run there, and they hang with the network.
        self._hashing = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="hash")

    # Saving ------------------------------------------------------------------------------

    async def save(
        self, key: StorageKey, source: ImageSource, condition: Condition = UNCONDITIONAL
    ) -> StoredImage:
        """One hashed request for what fits into a part, else equal parts."""
        guard = await self._admit(key, source.max_bytes, condition)
        if guard:
            large = source.max_bytes is not None and source.max_bytes > PART_BYTES
            await self._conditions.demand(guard, in_parts=large)
        kind = source.content_type if isinstance(source, ImportedImage) else None
        checks = UploadChecks(self._rules, kind)
        upload = _Upload(key, source, condition, checks, secrets.token_hex(16))
        most = PART_BYTES if source.max_bytes is None else min(source.max_bytes, PART_BYTES)
        async with self._budget_for(most).reserve(most, wait_s=DEADLINE_S) as held:
            parts: MultipartUpload | None = None
            part = PartBuffer(most)
            try:
                async for chunk in source:
                    upload.checks.count(chunk)
                    rest = memoryview(chunk)
                    while rest := part.take(rest):
                        parts = parts or await self._begin(upload, guard)
                        await self._send(upload, parts, part)
                        part = PartBuffer(PART_BYTES)  # a socket may still hold on to the sent one
                if parts is None:
                    held.shrink(len(part))
                    return await self._put(upload, part.contents(), guard)
                await self._send(upload, parts, part)
                return await self._complete(upload, parts, guard)
            except BaseException:
                if parts is not None:  # a client that waits for a refusal need not wait for this
                    self._leftovers.abort(parts.key, parts.upload_id)
                raise

    def _budget_for(self, size: int) -> MemoryBudget:
        """Small images have a share of their own, and what large ones do not want besides."""
        if size > _SMALL_BYTES or (not self._small.has_room(size) and self._large.has_room(size)):
            return self._large
        return self._small

    async def _admit(
        self, key: StorageKey, max_bytes: int | None, condition: Condition
    ) -> Mapping[str, str]:
        """Refuse what can be known to fail before the first byte is read.

        Returns:
            The fields that make the bucket itself hold to `condition` in the end.
        """
        if not condition.is_set:
            return {}
        if condition.create_only and max_bytes is not None and max_bytes <= PART_BYTES:
            return {"if-none-match": "*"}  # the bucket will say; asking first would cost a request
        return await self._guard(key, condition)

    async def _guard(
        self, key: StorageKey, condition: Condition, *, deadline: float | None = None
    ) -> Mapping[str, str]:
        """Check `condition` now, and tie the save to the state that it was checked against.

        Raises:
            PreconditionFailed: it does not hold.
        """
        try:
            etag: str | None = (await self._look(key, deadline=deadline)).etag
        except ImageNotFound:
            etag = None
        condition.check(etag)
        return {"if-none-match": "*"} if etag is None else {"if-match": etag}

    async def _put(
        self, upload: _Upload, body: memoryview, guard: Mapping[str, str]
    ) -> StoredImage:
        if len(body) > _HASHED_INLINE_BYTES:
            await self._run(upload.checks.digest, body)
        else:
            upload.checks.digest(body)
        received = upload.checks.finish(upload.source.expected_sha256)
        headers = self._headers(upload, received.content_type, received.sha256)
        key = upload.key.text
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._locks.hold(key, deadline=deadline):
            for _ in range(_GUARD_ATTEMPTS):
                call = Call(
                    "PutObject",
                    "PUT",
                    key,
                    headers={**headers, **guard},
                    body=body,
                    sha256=received.sha256.hex(),
                    expected=_CONDITION_FAILED if guard else frozenset(),
                )
                answer = await self._client.send(call, deadline=deadline)
                if answer.status not in _CONDITION_FAILED:
                    return self._described(upload, received, etag_of(answer.headers))
                if answer.doubtful:
                    return await self._find_out(upload, received, deadline)
                if upload.condition.create_only:
                    raise PreconditionFailed
                guard = await self._guard(upload.key, upload.condition, deadline=deadline)
                await self._conditions.demand(guard)
        raise BackendUnavailable("the image is replaced again and again while it is saved")

    async def _begin(self, upload: _Upload, guard: Mapping[str, str]) -> MultipartUpload:
        await self._conditions.demand(guard, in_parts=True)
        sha256 = upload.source.expected_sha256  # ours is known only when it is too late
        headers = self._headers(upload, upload.checks.content_type, sha256)
        return await MultipartUpload.begin(self._client, upload.key.text, headers, self._leftovers)

    async def _send(self, upload: _Upload, parts: MultipartUpload, part: PartBuffer) -> None:
        """Send a part, hashed into the whole, and by itself for its signature."""
        body = part.contents()
        await parts.send(body, await self._run(_hash_twice, upload.checks, body))

    async def _complete(
        self, upload: _Upload, parts: MultipartUpload, guard: Mapping[str, str]
    ) -> StoredImage:
        received = upload.checks.finish(upload.source.expected_sha256)
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._locks.hold(upload.key.text, deadline=deadline):
            answer = await self._client.send(parts.completion(guard), deadline=deadline)
            if answer.status not in _CONDITION_FAILED:
                return self._described(upload, received, completed_etag(answer))
            if answer.doubtful:
                return await self._find_out(upload, received, deadline)
            if guard:
                await self._guard(upload.key, upload.condition, deadline=deadline)
        # R2 ends the upload when a condition fails, so it cannot be tried against the new state.
        raise BackendUnavailable("the image was replaced, or the upload ended, while it was saved")

    def _headers(self, upload: _Upload, kind: str, sha256: bytes | None) -> dict[str, str]:
        source = upload.source
        return headers_of(
            kind,
            cache_control=self._cache_of(upload.key),
            save_id=upload.save_id,
            sha256=sha256,
            modified_ns=source.image.modified_ns if isinstance(source, ImportedImage) else None,
        )

    def _cache_of(self, key: StorageKey) -> str:
        return IMMUTABLE_CACHE if key.is_media else self._cache_control

    async def _find_out(self, upload: _Upload, received: Received, deadline: float) -> StoredImage:
        """Whose save refused ours, when one of our own attempts has had no answer?

        Raises:
            BackendUnavailable: not ours; whether ours was there before is unknown.
        """
        try:
            found = await self._look(upload.key, deadline=deadline)
        except ImageNotFound:
            found = None
        if found is None or found.save_id != upload.save_id:
            raise BackendUnavailable("the connection broke off: the outcome is unknown")
        return self._described(upload, received, found.etag)

    def _described(self, upload: _Upload, received: Received, etag: str) -> StoredImage:
        self._seen.note(upload.key.text, self._seen.moment)
        return StoredImage(
            key=upload.key,
            size=received.size,
            etag=etag,
            modified_ns=time.time_ns(),
            content_type=received.content_type,
            sha256=received.sha256,
            save_id=upload.save_id,
        )

    # Reading -----------------------------------------------------------------------------

    async def locate(self, key: StorageKey) -> RemoteImage:
        """The CDN's URL, or a presigned one; never before the image is known to be there."""
        if self._check_exists and key.text not in self._seen:
            moment = self._seen.moment
            await self._look(key)
            self._seen.note(key.text, moment)
        return self._where(key)

    def locate_now(self, key: StorageKey) -> RemoteImage | None:
        """The same for an image that was there a moment ago, or if existence is not checked."""
        return None if self._check_exists and key.text not in self._seen else self._where(key)

    def is_current(self, image: StoredImage) -> bool:  # noqa: ARG002  (the port's signature)
        """Only the bucket knows."""
        return False

    def is_missing(self, key: StorageKey) -> bool:  # noqa: ARG002  (the port's signature)
        """Only the bucket knows."""
        return False

    def _where(self, key: StorageKey) -> RemoteImage:
        """Remembered for as long as it would come out the same: a presigned URL for its second."""
        second = int(time.time()) if self._public_url is None else 0
        if second != self._places_at or len(self._places) >= _MAX_PLACES:
            self._places.clear()
            self._places_at = second
        place = self._places.get(key.text)
        if place is None:
            place = self._places[key.text] = RemoteImage(self._url(key.text))
        return place

    def _url(self, key: str) -> str:
        if self._public_url is None:
            return self._client.presigned_url(key, valid_for_s=PRESIGNED_S)
        return f"{self._public_url}/{quote(key, safe='/')}"

    async def open(self, key: StorageKey) -> ObjectImage:
        """One HEAD; reading then costs a GET for every 4 MiB."""
        return ObjectImage(self._client, await self._look(key))

    async def stat(self, key: StorageKey) -> StoredImage:
        """The facts of one HEAD, asked for each time."""
        return await self._look_and_note(key)

    async def _look_and_note(self, key: StorageKey, deadline: float | None = None) -> StoredImage:
        moment = self._seen.moment
        image = await self._look(key, deadline=deadline)
        self._seen.note(key.text, moment)
        return image

    async def _look(self, key: StorageKey, *, deadline: float | None = None) -> StoredImage:
        call = Call("HeadObject", "HEAD", key.text, expected=_MISSING)
        answer = await self._client.send(call, deadline=deadline)
        if answer.status in _MISSING:
            raise ImageNotFound
        return image_of(key, answer.headers)

    async def list(self, query: ListQuery) -> Page:
        """A page in the order of the bucket: whole keys on R2, the tree's on SeaweedFS."""
        listed = await list_page(self._client, query)
        if listed.skipped:
            self.skipped_keys += listed.skipped
            log.warning(
                "a listing below %r leaves out %d keys that no image can have",
                query.prefix.text,
                listed.skipped,
            )
        return listed.page

    async def entries(self, query: ListQuery) -> EntryPage:
        """A page, and a HEAD for each image on it."""
        return await self._describer.describe(await self.list(query))

    # Removing ----------------------------------------------------------------------------

    async def delete(
        self,
        key: StorageKey,
        condition: Condition = UNCONDITIONAL,
        *,
        save_id: str | None = None,
    ) -> None:
        """A look, for the 404 and the condition, and directly after it the deletion.

        S3 has no conditional deletion: another process can save in between, and loses. For one
        very save the deletion is sent once, so that nothing comes between but its own way.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._locks.hold(key.text, deadline=deadline):
            found = await self._look(key, deadline=deadline)
            condition.check(found.etag)
            if save_id not in (None, found.save_id):
                raise PreconditionFailed
            once = save_id is not None
            call = Call("DeleteObject", "DELETE", key.text, expected=_MISSING, once=once)
            try:
                await self._client.send(call, deadline=deadline)
            finally:
                self._seen.forget(key.text)

    # Copying -----------------------------------------------------------------------------

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> StoredImage:
        """Within the bucket, of the very save that was looked at; up to S3's 5 GiB.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        async with self._locks.hold(target.text, deadline=deadline):
            for _ in range(_GUARD_ATTEMPTS):
                found = await self._look(source, deadline=deadline)
                if save_id not in (None, found.save_id):
                    raise PreconditionFailed
                copied_id = secrets.token_hex(16)
                answer = await self._client.send(
                    self._copying(found, target, copied_id), deadline=deadline
                )
                if answer.status == 404 and answer.doubtful:  # noqa: PLR2004  (Not Found)
                    raise BackendUnavailable("the connection broke off: the outcome is unknown")
                if answer.status == 404:  # noqa: PLR2004  (it went away after the look)
                    raise ImageNotFound
                if answer.status not in _CONDITION_FAILED:
                    self._seen.note(target.text, self._seen.moment)
                    return dataclasses.replace(
                        found,
                        key=target,
                        etag=completed_etag(answer),
                        modified_ns=time.time_ns(),
                        save_id=copied_id,
                    )
        raise BackendUnavailable("the image is replaced again and again while it is copied")

    def _copying(self, found: StoredImage, target: StorageKey, save_id: str) -> Call:
        """REPLACE: a plain copy would keep the save id, and a cache policy of long ago."""
        headers = headers_of(
            found.content_type,
            cache_control=self._cache_of(target),
            save_id=save_id,
            sha256=found.sha256,
        )
        headers |= {
            "x-amz-copy-source": self._client.copy_source(found.key.text),
            "x-amz-copy-source-if-match": found.etag,
            "x-amz-metadata-directive": "REPLACE",
        }
        return Call(
            "CopyObject",
            "PUT",
            target.text,
            headers=headers,
            expected=_CONDITION_FAILED,
            timeout_s=DEADLINE_S,
        )

    # Running -----------------------------------------------------------------------------

    async def check(self) -> None:
        """Ask for what is never there, and end an upload that never began.

        Signed requests: they say whether the bucket is there, and whether we may read and write.
        The second one changes nothing, is free on R2, and leaves no delete marker in a bucket of
        another maker's with versions. Only that we may not is an answer to look at: a bucket can
        say what it wants to so odd an upload.
        """
        now = asyncio.get_running_loop().time()
        if now < self._checked_until:
            return
        deadline = now + _CHECK_S
        await self._client.send(
            Call("GetObject", "GET", _CHECKED_KEY, expected=_MISSING), deadline=deadline
        )
        await self._client.send(
            Call(
                "AbortMultipartUpload",
                "DELETE",
                _CHECKED_KEY,
                query={"uploadId": _CHECKED_UPLOAD},
                expected=_NO_SUCH_UPLOAD,
            ),
            deadline=deadline,
        )
        self._checked_until = now + _CHECK_HOLDS_S

    async def lacking_conditions(self) -> Sequence[str]:
        """By a few writes to an object of our own; see `conditions.py`."""
        return await self._conditions.lacking()

    async def close(self) -> None:
        """Finish the aborts under way, then close the connections."""
        await self._conditions.close()
        await self._leftovers.close()
        await self._client.close()
        self._hashing.shutdown()

    async def _run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._hashing, functools.partial(job, *args, **kwargs))


def _hash_twice(checks: UploadChecks, part: memoryview) -> str:
    checks.digest(part)
    return hashlib.sha256(part).hexdigest()
