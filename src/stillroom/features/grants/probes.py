"""Tests of a bucket, to find the terms of presigned uploads and copies that the bucket enforces.

A signed header protects only if the bucket compares it with the request. The documentation of
buckets is unclear about that, so each process uploads temporary objects once, as clients would do.
docs/r2.md has a table of the results.
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
from stillroom.store.content_type import DEFAULT
from stillroom.store.objectstore import (
    ChangeResult,
    Guard,
    Headers,
    Properties,
    Refusal,
    TakesPresignedUploads,
)

# Key prefix of the temporary objects. The lifecycle rule for uploads deletes those that remain.
PROBE: Final = "temp/.probe-"
_BODY: Final = b"written to try uploads; may be deleted"
_PLAIN: Final = {"content-type": DEFAULT, "content-disposition": "attachment"}

log = logging.getLogger("stillroom.r2")


class Guarantee(StrEnum):
    """Guarantee that a bucket may give. The first three mean that the bucket enforces a header."""

    LENGTH = "Content-Length"
    SHA256 = CHECKSUM
    CREATE_ONLY = "If-None-Match"
    COPY = "conditional copies"


_SHA256: Final = base64.b64encode(hashlib.sha256(_BODY).digest()).decode("ascii")
# Value of each signed header, and the body of a second upload that the bucket must refuse.
_TESTED: Final = {
    Guarantee.LENGTH: (str(len(_BODY)), _BODY + b"!"),
    Guarantee.SHA256: (_SHA256, _BODY[::-1]),
    Guarantee.CREATE_ONLY: ("*", _BODY),
}
_NAMES: Final = ("plain", "copy", "stolen", "forged", *_TESTED, *map("{}-other".format, _TESTED))


class UploadProbe:
    """Tests of the bucket `store`, which run when their result is first needed."""

    def __init__(self, store: TakesPresignedUploads) -> None:
        self.store = store
        self._test: asyncio.Future[frozenset[Guarantee]] | None = None

    async def find_guarantees(self) -> frozenset[Guarantee]:
        """Return the guarantees of the bucket. The result of a successful test is cached.

        Raises:
            BackendUnavailable: the bucket could not be reached during the test.
            FeatureOff: presigned uploads to this bucket do not work, or would not be safe.
        """
        test = self._test
        if test is None or (test.done() and (test.cancelled() or test.exception())):
            test = self._test = asyncio.ensure_future(self._run())
        return await asyncio.shield(test)

    async def _run(self) -> frozenset[Guarantee]:
        prefix = f"{PROBE}{secrets.token_hex(8)}-"
        try:
            guarantees = frozenset([kind async for kind in self._find(prefix)])
        finally:
            for name in _NAMES:
                with contextlib.suppress(BackendUnavailable):
                    await self.store.delete(prefix + name, once=True)
        log.info("the bucket enforces these limits of uploads: %s", ", ".join(sorted(guarantees)))
        return guarantees

    async def _find(self, prefix: str) -> AsyncIterator[Guarantee]:
        plain = f"{prefix}plain"
        stored = await self._put(plain)
        if stored.etag is None:
            raise FeatureOff("the bucket refuses presigned uploads (PUT), so none are granted")
        # Otherwise clients could publish pages below temp/, or copy private objects to there.
        inline = {"content-disposition": "inline"}
        forged = await self._put(f"{prefix}forged", more=inline)
        stolen = await self._put(f"{prefix}stolen", source=plain)
        if None in (forged.refusal, stolen.refusal):
            raise FeatureOff(
                "the bucket accepts presigned uploads with headers that were not signed, such as "
                "x-amz-copy-source, so no uploads are granted: use a bucket that refuses them"
            )
        for kind, (value, other) in _TESTED.items():
            key, signed = prefix + kind, {**_PLAIN, kind.lower(): value}
            # Some buckets refuse to replace any object, whatever is sent.
            other_key = key if kind is Guarantee.CREATE_ONLY else f"{key}-other"
            first, second = await self._put(key, signed), await self._put(other_key, signed, other)
            if first.refusal is None and second.refusal is not None:
                yield kind
        copies = [
            await self.store.copy(
                plain, stored.etag, f"{prefix}copy", Properties(), guard=Guard(), any_refusal=True
            )
            for _ in range(2)
        ]
        if copies[0].certain().etag and copies[1].certain().refusal is Refusal.GUARD_FAILED:
            yield Guarantee.COPY

    async def _put(
        self,
        key: str,
        signed: Headers = _PLAIN,
        body: bytes = _BODY,
        more: Headers = _PLAIN,
        source: str = "",
    ) -> ChangeResult:
        sent = {**signed, **more}
        return (await self.store.put_presigned(key, signed, sent, body, source=source)).certain()
