"""Whether a bucket holds to If-None-Match and If-Match when it stores: tried, never believed.

Some ignore the fields, and a guarded save would replace whatever is there; some refuse them, or
take ETags without their quotes alone, as Ceph RGW 18 does
(https://docs.ceph.com/en/reef/radosgw/s3/objectops/). What an object of our own shows is
remembered for as long as the process runs.
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stillroom.errors import BackendUnavailable, ConditionUnsupported
from stillroom.storage.bucket.abandoned_uploads import AbandonedUploads
from stillroom.storage.bucket.multipart import MultipartUpload, completed_etag
from stillroom.storage.bucket.objects import etag_of
from stillroom.storage.s3.client import Answer, BucketClient, Call

PROBE: Final = ".stillroom/conditions-"
"""What an object for this is called; no image path leads there."""

_BODY: Final = memoryview(b"written to try conditions; may be deleted")
_SHA256: Final = hashlib.sha256(_BODY).hexdigest()
_OTHER_ETAG: Final = f'"{"0" * 32}"'

_REFUSALS: Final = frozenset((400, 403, 404, 405, 409, 412, 501))
_FAILED: Final = frozenset((404, 412))
"""S3 answers If-Match on a missing object with 404."""

_CREATE: Final = {"if-none-match": "*"}

log = logging.getLogger("stillroom.r2")


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to store under a condition.

    Attributes:
        field: Of the request that stores.
        in_parts: It is the one that completes an upload in parts.
    """

    field: str
    in_parts: bool

    def __str__(self) -> str:
        name = "If-None-Match" if self.field in _CREATE else "If-Match"
        return f"{name} for images over 16 MiB" if self.in_parts else name


class Conditions:
    """What one bucket does with conditions; found out when it is first needed."""

    def __init__(self, client: BucketClient, leftovers: AbandonedUploads) -> None:
        self._client = client
        self._leftovers = leftovers
        self._trying: dict[bool, asyncio.Future[None]] = {}
        self._known: dict[_Way, str | None] = {}

    async def demand(self, guard: Mapping[str, str], *, in_parts: bool = False) -> None:
        """Return if the bucket holds to `guard`, the condition of a request that stores.

        R2 is not asked: it does by its documents, and bills each request
        (https://developers.cloudflare.com/r2/api/s3/extensions/#conditional-operations-in-putobject).

        Raises:
            ConditionUnsupported: it does not; nothing was sent yet.
            BackendUnavailable: that could not be found out.
        """
        if self._client.is_r2:
            return
        for field in guard:
            lacking = (await self._found(in_parts=in_parts))[_Way(field, in_parts)]
            if lacking is not None:
                raise ConditionUnsupported(
                    f"the bucket {lacking}, so a save with a condition cannot be kept to it: "
                    "save without one, or use a bucket with conditional writes"
                )

    async def lacking(self) -> Sequence[str]:
        """What the bucket does wrong, a clause each; nothing if it holds to all conditions.

        Raises:
            BackendUnavailable: that could not be found out.
        """
        await self._found(in_parts=False)
        found = await self._found(in_parts=True)
        return [clause for clause in found.values() if clause is not None]

    async def _found(self, *, in_parts: bool) -> Mapping[_Way, str | None]:
        """What is known, once it is; all who need it wait for one attempt."""
        if _Way("if-match", in_parts) not in self._known:
            trying = self._trying.get(in_parts)
            if trying is None:
                trying = asyncio.ensure_future(self._find_out(in_parts=in_parts))
                trying.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._trying[in_parts] = trying
            await asyncio.shield(trying)
        return self._known

    async def _find_out(self, *, in_parts: bool) -> None:
        key = f"{PROBE}{secrets.token_hex(8)}"
        try:
            try:
                found = await self._try(key, in_parts=in_parts)
            finally:
                with contextlib.suppress(BackendUnavailable):
                    await self._client.send(Call("DeleteObject", "DELETE", key, once=True))
        finally:
            del self._trying[in_parts]
        for clause in filter(None, found.values()):
            log.error(
                "the bucket %s: saves with such a condition are answered 501 (docs/r2.md)", clause
            )
        self._known |= found

    async def close(self) -> None:
        """End what is being tried."""
        trying = list(self._trying.values())
        for task in trying:
            task.cancel()
        await asyncio.gather(*trying, return_exceptions=True)

    async def _try(self, key: str, *, in_parts: bool) -> dict[_Way, str | None]:
        create, replace = _Way("if-none-match", in_parts), _Way("if-match", in_parts)
        found: dict[_Way, str | None] = {}
        first = await self._store(key, _CREATE, in_parts=in_parts)
        if not _stored(first):
            found[create] = f"refuses {create} ({first.status})"
            first = await self._store(key, {}, in_parts=in_parts)
            if not _stored(first):
                raise BackendUnavailable("the bucket does not store what conditions are tried on")
        else:
            found[create] = self._fault(create, await self._store(key, _CREATE, in_parts=in_parts))
        etag = completed_etag(first) if in_parts else etag_of(first.headers)
        other = await self._store(key, {"if-match": _OTHER_ETAG}, in_parts=in_parts)
        found[replace] = self._fault(replace, other)
        if found[replace] is None:
            same = await self._store(key, {"if-match": etag}, in_parts=in_parts)
            if not _stored(same):
                found[replace] = f"refuses {replace} where it holds ({same.status})"
        return found

    @staticmethod
    def _fault(way: _Way, answer: Answer) -> str | None:
        """What is wrong with the answer to a condition that does not hold."""
        if answer.status in _FAILED:
            return None
        return f"ignores {way}" if _stored(answer) else f"refuses {way} ({answer.status})"

    async def _store(self, key: str, guard: Mapping[str, str], *, in_parts: bool) -> Answer:
        if in_parts:
            parts = await MultipartUpload.begin(self._client, key, {}, self._leftovers)
            await parts.send(_BODY, _SHA256)
            completion = parts.completion(guard)
            answer = await self._client.send(completion.expecting(_REFUSALS))
            if not _stored(answer):
                self._leftovers.abort(key, parts.upload_id)
        else:
            call = Call("PutObject", "PUT", key, headers=guard, body=_BODY, sha256=_SHA256)
            answer = await self._client.send(call.expecting(_REFUSALS))
        if answer.doubtful:  # a 412 may then be our own success's
            raise BackendUnavailable("the bucket's conditions could not be tried: it is in trouble")
        return answer


def _stored(answer: Answer) -> bool:
    return 200 <= answer.status < 300  # noqa: PLR2004  (2xx)
