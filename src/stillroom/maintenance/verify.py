"""Verify stored images against their recorded SHA-256 and report discrepancies.

It reads as a client would, beside running servers; an image that was replaced or deleted while
it was read is no discrepancy and not reported.
"""

import asyncio
import contextlib
import hashlib
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from stillroom.errors import BackendUnavailable, ConfigurationError, ImageNotFound, ReadOnly
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.inspection import AdoptsHashes, Inspected, Inspection, UnexpectedFile
from stillroom.storage.values import StoredImage

_MAX_PROBLEMS: Final = 10_000
_MAX_UNKNOWN: Final = 1_000
"""Kept for the report; more are counted, so that a ruined store costs no more memory, and one
full of files without a hash hides no problem."""

_READ_ATTEMPTS: Final = 3


class FindingKind(StrEnum):
    """The kinds of discrepancies."""

    DAMAGED = "damaged"
    """Its bytes do not match its recorded hash."""

    CHANGED = "changed"
    """Written to in place since it was saved: its bytes do not match the hash recorded then."""

    MISSING = "missing"
    """A row names it, and there is no such image."""

    UNREADABLE = "unreadable"
    """Reading it fails, while other images can be read."""

    STRAY = "stray"
    """An unexpected file that cannot be an image."""

    UNKNOWN = "unknown"
    """No SHA-256 is recorded, as of files that were copied in by hand. No problem."""


@dataclass(frozen=True, slots=True)
class VerificationFinding:
    """One discrepancy.

    Attributes:
        name: The key, or the name of an unexpected file.
        detail: What is wrong, in a sentence.
        quarantined: Where it was moved, if it was.
    """

    kind: FindingKind
    name: str
    detail: str
    quarantined: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """An image that should exist, as a row of the media library describes it.

    Attributes:
        size: Bytes; None if unknown.
        sha256: 32 bytes; None if unknown.
    """

    key: StorageKey
    size: int | None = None
    sha256: bytes | None = None


ExpectedAfter = Callable[[str], AsyncIterator[Expected]]
"""The expected images after a key, in key order."""


@dataclass
class VerificationProgress:
    """Progress of a verification: where to resume, and its findings so far.

    Attributes:
        after: All images up to this key are verified.
        images: Verified.
        size: Bytes read.
        adopted: Hashes recorded.
        counts: Findings by kind, also those that are not kept.
        findings: The first 10,000 problems, and the first 1,000 images without a hash.
    """

    after: str = ""
    images: int = 0
    size: int = 0
    adopted: int = 0
    counts: dict[FindingKind, int] = field(default_factory=dict)
    findings: list[VerificationFinding] = field(default_factory=list)

    @property
    def problems(self) -> int:
        """How many findings need an operator."""
        return sum(count for kind, count in self.counts.items() if kind is not FindingKind.UNKNOWN)

    def __post_init__(self) -> None:
        self._noted = {(finding.kind, finding.name) for finding in self.findings}

    def note(self, finding: VerificationFinding) -> bool:
        """Count a finding, and keep it up to the limit.

        Returns:
            False if it was counted already: a resumed run reads a few images again.
        """
        if (finding.kind, finding.name) in self._noted:
            return False
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        unknown = finding.kind is FindingKind.UNKNOWN
        so_far = self.counts[FindingKind.UNKNOWN] if unknown else self.problems
        if so_far <= (_MAX_UNKNOWN if unknown else _MAX_PROBLEMS):
            self.findings.append(finding)
            self._noted.add((finding.kind, finding.name))
        return True


class Verification:
    """One verification pass over a store. Cancel `run` to stop; `progress` says where to resume."""

    def __init__(
        self,
        store: Inspection,
        *prefixes: KeyPrefix,
        progress: VerificationProgress,
        rate_limit: RateLimiter,
        quarantine: bool = False,
        adopt: bool = False,
        expected: ExpectedAfter | None = None,
        found: Callable[[VerificationFinding], None] = lambda _finding: None,
    ) -> None:
        """Prepare a pass.

        Args:
            store: Where the images are; it stays open.
            prefixes: Only keys that begin with one of them; in the order of keys.
            progress: Where to resume; updated with each image.
            rate_limit: How fast to read.
            quarantine: Move damaged and changed images into quarantine.
            adopt: Record the hashes of images that have none.
            expected: The images that should exist, such as those of the media library's rows.
            found: Called with each finding.

        Raises:
            ConfigurationError: this store cannot record hashes.
        """
        if adopt and not isinstance(store, AdoptsHashes):
            raise ConfigurationError(
                "a bucket takes no hash for an object that is there already: "
                "announce it (Repr-Digest) when you save"
            )
        self.progress = progress
        self._store = store
        self._prefixes = prefixes
        self._rate_limit = rate_limit
        self._quarantine = quarantine
        self._adopt = adopt
        self._expected = expected
        self._found = found

    async def run(self) -> None:
        """Verify every image after `progress.after`.

        Raises:
            BackendUnavailable: the store as a whole cannot be read any more.
        """
        under_way: deque[tuple[str, asyncio.Task[None]]] = deque()
        try:
            async with contextlib.aclosing(self._keys()) as keys:
                async for key, expected in keys:
                    task = asyncio.ensure_future(self._verify_image(key, expected))
                    under_way.append((key.text, task))
                    if len(under_way) >= self._store.at_once:
                        await self._finish_first(under_way)
            while under_way:
                await self._finish_first(under_way)
        finally:
            for _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)

    async def _finish_first(self, under_way: deque[tuple[str, asyncio.Task[None]]]) -> None:
        """Wait for the first one, so that all up to `progress.after` are done at any moment."""
        key, task = under_way[0]
        await asyncio.shield(asyncio.wait([task]))
        under_way.popleft()
        task.result()
        self.progress.after = key

    async def _keys(self) -> AsyncGenerator[tuple[StorageKey, Expected | None], None]:
        """Walk the images; missing ones and unexpected files are noted on the way."""
        wanted = self._expected(self.progress.after) if self._expected else _nothing()
        next_expected = await anext(wanted, None)
        async for entry in self._entries():
            if isinstance(entry, UnexpectedFile):
                self._note(VerificationFinding(FindingKind.STRAY, entry.name, entry.reason))
                continue
            while next_expected is not None and next_expected.key < entry:
                await self._note_missing(next_expected)
                next_expected = await anext(wanted, None)
            if next_expected is not None and next_expected.key == entry:
                yield entry, next_expected
                next_expected = await anext(wanted, None)
            else:
                yield entry, None
        while next_expected is not None:
            await self._note_missing(next_expected)
            next_expected = await anext(wanted, None)

    async def _entries(self) -> AsyncIterator[StorageKey | UnexpectedFile]:
        after = self.progress.after
        for prefix in self._prefixes:
            if after.startswith(prefix.text) or after < prefix.text:
                async for entry in self._store.walk(prefix, after):
                    yield entry

    async def _note_missing(self, expected: Expected) -> None:
        with contextlib.suppress(ImageNotFound):
            await self._store.stat(expected.key)
            return  # saved after the listing had passed it
        self._note(
            VerificationFinding(
                FindingKind.MISSING, expected.key.text, "a row names it, and there is no such image"
            )
        )

    async def _verify_image(self, key: StorageKey, expected: Expected | None) -> None:
        """Verify one image; it is read again before a mismatch is reported."""
        sure = False
        failures = 0
        while True:
            try:
                if await self._compare(key, expected, sure=sure):
                    break
                sure = True
            except ImageNotFound:
                break  # deleted since it was listed
            except ReadOnly:
                raise
            except BackendUnavailable as error:
                await self._store.check()  # if nothing can be read, it is not this image's fault
                failures += 1
                if failures == _READ_ATTEMPTS:
                    self._note(VerificationFinding(FindingKind.UNREADABLE, key.text, str(error)))
                    break
        self.progress.images += 1

    async def _compare(self, key: StorageKey, expected: Expected | None, *, sure: bool) -> bool:
        """Read an image and compare its hash; False if it differs and must be read again."""
        inspected = await self._store.open(key)
        opened = inspected.opened
        try:
            image = opened.image
            noted = image.sha256 or inspected.outdated_sha256
            wanted = noted or (expected.sha256 if expected else None)
            if wanted is None and not self._adopt:
                self._note(
                    VerificationFinding(FindingKind.UNKNOWN, key.text, "no SHA-256 is recorded")
                )
                return True
            digest = hashlib.sha256()
            async for chunk in opened.chunks(0, image.size):
                await self._rate_limit.spend(len(chunk))
                digest.update(chunk)
                self.progress.size += len(chunk)
            sha256 = digest.digest()
            if _differs(image, sha256, wanted, expected):
                if sure:
                    await self._report(inspected, sha256, wanted, expected)
                return sure
            if image.sha256 is None and self._adopt and isinstance(self._store, AdoptsHashes):
                await self._store.adopt(inspected, sha256)
                self.progress.adopted += 1
        finally:
            opened.close()
        return True

    async def _report(
        self, inspected: Inspected, sha256: bytes, wanted: bytes | None, expected: Expected | None
    ) -> None:
        image = inspected.opened.image
        if (await self._store.stat(image.key)).save_id != image.save_id:
            return  # replaced while it was read
        kind = (
            FindingKind.CHANGED
            if image.sha256 is None and inspected.outdated_sha256
            else FindingKind.DAMAGED
        )
        reference = wanted if wanted != sha256 or expected is None else expected.sha256
        detail = f"its SHA-256 is {sha256.hex()}, and was {(reference or b'').hex()}"
        where = None
        if self._quarantine:
            where = await self._store.quarantine(image, _facts(image, kind, sha256, reference))
        self._note(VerificationFinding(kind, image.key.text, detail, where))

    def _note(self, finding: VerificationFinding) -> None:
        if self.progress.note(finding):
            self._found(finding)


def _differs(
    image: StoredImage, sha256: bytes, wanted: bytes | None, expected: Expected | None
) -> bool:
    if wanted not in (None, sha256):
        return True
    if expected is None:
        return False
    return expected.sha256 not in (None, sha256) or expected.size not in (None, image.size)


async def _nothing() -> AsyncIterator[Expected]:
    return
    yield  # makes it a generator


def _facts(image: StoredImage, kind: FindingKind, sha256: bytes, wanted: bytes | None) -> bytes:
    """The facts.json that is kept beside a quarantined image."""
    facts = {
        "key": image.key.text,
        "found": kind,
        "sha256": sha256.hex(),
        "sha256_when_saved": wanted.hex() if wanted else None,
        "size": image.size,
        "etag": image.etag,
        "content_type": image.content_type,
        "saved": datetime.fromtimestamp(image.modified_ns / 1e9, UTC).isoformat(),
        "quarantined": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(facts, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
