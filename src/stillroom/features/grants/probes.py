"""Tests that find out what a bucket enforces for presigned uploads and for conditional copies.

A signed header protects only if the bucket compares it with the request. Documents of vendors are
silent or contradict each other about this, so temporary objects are uploaded once per process, as
clients would upload them. docs/r2.md has a table of the results.
"""

import asyncio
import base64
import contextlib
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Final

from stillroom.errors import BackendUnavailable, FeatureOff
from stillroom.features.grants.grant import CHECKSUM
from stillroom.store.objectstore import (
    ChangeResult,
    Guard,
    Headers,
    Properties,
    Refusal,
    TakesPresignedUploads,
)

PROBE: Final = ".stillroom/grants-"
"""Key prefix of the temporary objects. No image can have such a key."""

_BODY: Final = b"written to try uploads; may be deleted"
_PLAIN: Final = {
    "content-type": "application/octet-stream",
    "content-disposition": "attachment",
}

log = logging.getLogger("stillroom.r2")


class Kept(StrEnum):
    """Promise that a bucket keeps. The first three are headers of an upload."""

    LENGTH = "Content-Length"
    SHA256 = CHECKSUM
    CREATE_ONLY = "If-None-Match"
    COPY = "conditional copies"


_SHA256: Final = base64.b64encode(hashlib.sha256(_BODY).digest()).decode("ascii")
_TESTED: Final = {
    Kept.LENGTH: (str(len(_BODY)), _BODY + b"!"),
    Kept.SHA256: (_SHA256, _BODY[::-1]),
    Kept.CREATE_ONLY: ("*", _BODY),
}
"""Value of each signed header, and the body of a second upload, which the bucket must refuse."""

_NAMES: Final = ("plain", "copy", "stolen", "forged", *_TESTED)


class UploadProbe:
    """Result of the tests of one bucket, which run when it is first needed."""

    def __init__(self, store: TakesPresignedUploads) -> None:
        self._store = store
        self._test: asyncio.Future[frozenset[Kept]] | None = None

    async def find_kept(self) -> frozenset[Kept]:
        """Return what the bucket enforces. One test runs for all callers; failures are not cached.

        Raises:
            BackendUnavailable: a test was interrupted.
            FeatureOff: presigned uploads to this bucket do not work, or would not be safe.
        """
        test = self._test
        if test is None or (test.done() and (test.cancelled() or test.exception())):
            test = self._test = asyncio.ensure_future(self._run())
        return await asyncio.shield(test)

    async def _run(self) -> frozenset[Kept]:
        prefix = f"{PROBE}{secrets.token_hex(8)}-"
        try:
            kept = frozenset([kind async for kind in self._find(prefix)])
        finally:
            for name in _NAMES:
                with contextlib.suppress(BackendUnavailable):
                    await self._store.delete(prefix + name, once=True)
        log.info("the bucket enforces for uploads: %s", ", ".join(sorted(kept)))
        return kept

    async def _find(self, prefix: str) -> AsyncIterator[Kept]:
        plain = f"{prefix}plain"
        if not await self._put(plain):
            raise FeatureOff("the bucket refuses presigned uploads (PUT), so none are granted")
        # Otherwise clients could publish pages below temp/, or copy private objects to there.
        if await self._put(f"{prefix}forged", more={"content-disposition": "inline"}):
            raise FeatureOff(
                "the bucket accepts a presigned upload with other headers than the signed ones, so "
                "no uploads are granted: use a bucket that checks signatures"
            )
        if await self._put(f"{prefix}stolen", source=plain):
            raise FeatureOff(
                "the bucket lets clients copy other objects with a presigned upload "
                "(x-amz-copy-source is accepted unsigned), so no uploads are granted: use a bucket "
                "that refuses headers that are not signed"
            )
        for kind, (value, other) in _TESTED.items():
            key, signed = prefix + kind, {**_PLAIN, kind.lower(): value}
            if await self._put(key, signed) and not await self._put(key, signed, other):
                yield kind
        copies = [await self._copy(plain, f"{prefix}copy") for _ in range(2)]
        if copies[0].etag and copies[1].refusal is Refusal.GUARD_FAILED:
            yield Kept.COPY

    async def _put(
        self,
        key: str,
        signed: Headers = _PLAIN,
        body: bytes = _BODY,
        more: Headers = _PLAIN,
        source: str = "",
    ) -> bool:
        """Upload an object as a client, with other headers in `more`. True if it succeeds."""
        sent = {**signed, **more}
        result = await self._store.put_presigned(key, signed, sent, body, source=source)
        return _certain(result).refusal is None

    async def _copy(self, source: str, target: str) -> ChangeResult:
        found = await self._store.head(source)
        if found is None:
            raise BackendUnavailable("the bucket lost the object of a test: try again later")
        return _certain(
            await self._store.copy(
                source, found.etag, target, Properties(), guard=Guard(), any_refusal=True
            )
        )


def _certain(result: ChangeResult) -> ChangeResult:
    """Return `result`. Raise an error if an attempt without a response may have succeeded."""
    if result.doubtful:
        raise BackendUnavailable("the bucket did not respond to an upload for a test")
    return result
