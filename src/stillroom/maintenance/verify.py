"""Verification of stored images against their recorded SHA-256 hashes.

Images are read as clients read them, while servers may run. An image that is replaced or deleted
during the verification is not reported.
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
"""Maximum numbers of problems, and of images without a hash, in the report.

Further problems and images are only counted.
"""

_READ_ATTEMPTS: Final = 3


class FindingKind(StrEnum):
    """Kinds of problems that a verification finds."""

    DAMAGED = "damaged"
    """The bytes do not match the recorded hash."""

    CHANGED = "changed"
    """The file was modified after it was saved, and no longer matches the recorded hash."""

    MISSING = "missing"
    """A database row refers to an image that does not exist."""

    UNREADABLE = "unreadable"
    """The image cannot be read, although other images can."""

    STRAY = "stray"
    """The store contains an unexpected file that cannot be an image."""

    UNKNOWN = "unknown"
    """No hash is recorded, for example because the file was copied manually. Not a problem."""


@dataclass(frozen=True, slots=True)
class VerificationFinding:
    """Problem that a verification has found.

    Attributes:
        name: Key of the image, or name of an unexpected file.
        detail: Description of the problem in one sentence.
        quarantined: Location in the quarantine if the image was moved there, else None.
    """

    kind: FindingKind
    name: str
    detail: str
    quarantined: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """Image that should exist because a row in the media library refers to it.

    Attributes:
        size: Size in bytes; None if unknown.
        sha256: Hash of 32 bytes; None if unknown.
    """

    key: StorageKey
    size: int | None = None
    sha256: bytes | None = None


ExpectedAfter = Callable[[str], AsyncIterator[Expected]]
"""Function that yields the expected images after a key, in key order."""


@dataclass
class VerificationProgress:
    """Progress of a verification: the position to resume from, and the findings so far.

    Attributes:
        after: Key up to which all images are verified.
        images: Number of verified images.
        size: Number of bytes read.
        adopted: Number of hashes recorded.
        counts: Number of findings by kind, including findings that are not in `findings`.
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
        """Number of findings that an operator must handle."""
        return sum(count for kind, count in self.counts.items() if kind is not FindingKind.UNKNOWN)

    def __post_init__(self) -> None:
        self._keys_counted = {(finding.kind, finding.name) for finding in self.findings}

    def note(self, finding: VerificationFinding) -> bool:
        """Count a finding, and add it to `findings` up to the limit.

        Return False if it was already counted: a resumed run reads some images again.
        """
        if (finding.kind, finding.name) in self._keys_counted:
            return False
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        unknown = finding.kind is FindingKind.UNKNOWN
        number = self.counts[FindingKind.UNKNOWN] if unknown else self.problems
        if number <= (_MAX_UNKNOWN if unknown else _MAX_PROBLEMS):
            self.findings.append(finding)
            self._keys_counted.add((finding.kind, finding.name))
        return True


class Verification:
    """Verification of one store. Cancel `run` to stop it; `progress` records the position."""

    def __init__(
        self,
        store: Inspection,
        *prefixes: KeyPrefix,
        progress: VerificationProgress,
        rate_limit: RateLimiter,
        quarantine: bool = False,
        adopt: bool = False,
        expected: ExpectedAfter | None = None,
        on_finding: Callable[[VerificationFinding], None] = lambda _finding: None,
    ) -> None:
        """Prepare the verification of a store.

        Args:
            store: Store to verify. The caller closes it.
            prefixes: Sorted key prefixes. Only images with one of them are verified.
            progress: Position to resume from, updated after each image.
            rate_limit: Limit on the bytes read per second.
            quarantine: Move damaged and changed images into quarantine.
            adopt: Record the hashes of images without a recorded hash.
            expected: Images that should exist, such as images in the media library.
            on_finding: Called with each finding.

        Raises:
            ConfigurationError: this kind of store cannot record hashes.
        """
        if adopt and not isinstance(store, AdoptsHashes):
            raise ConfigurationError(
                "--adopt cannot be used with a bucket, since hashes of stored objects cannot be "
                "added: send Repr-Digest with each save instead"
            )
        self.progress = progress
        self._store = store
        self._prefixes = prefixes
        self._rate_limit = rate_limit
        self._quarantine = quarantine
        self._adopt = adopt
        self._expected = expected
        self._on_finding = on_finding

    async def run(self) -> None:
        """Verify every image after `progress.after`.

        Raises:
            BackendUnavailable: the whole store can no longer be read.
        """
        tasks: deque[tuple[str, asyncio.Task[None]]] = deque()
        try:
            async with contextlib.aclosing(self._keys()) as keys:
                async for key, expected in keys:
                    task = asyncio.ensure_future(self._verify_image(key, expected))
                    tasks.append((key.text, task))
                    if len(tasks) >= self._store.at_once:
                        await self._finish_first(tasks)
            while tasks:
                await self._finish_first(tasks)
        finally:
            for _, task in tasks:
                task.cancel()
            await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)

    async def _finish_first(self, tasks: deque[tuple[str, asyncio.Task[None]]]) -> None:
        """Wait for the oldest task, so that all images up to `progress.after` are verified."""
        key, task = tasks[0]
        await asyncio.shield(asyncio.wait([task]))
        tasks.popleft()
        task.result()
        self.progress.after = key

    async def _keys(self) -> AsyncGenerator[tuple[StorageKey, Expected | None], None]:
        """Yield the keys of all images. Report missing images and unexpected files."""
        expected = self._expected(self.progress.after) if self._expected else _no_images()
        next_expected = await anext(expected, None)
        async for entry in self._entries():
            if isinstance(entry, UnexpectedFile):
                self._note(VerificationFinding(FindingKind.STRAY, entry.name, entry.reason))
                continue
            while next_expected is not None and next_expected.key < entry:
                await self._note_missing(next_expected)
                next_expected = await anext(expected, None)
            if next_expected is not None and next_expected.key == entry:
                yield entry, next_expected
                next_expected = await anext(expected, None)
            else:
                yield entry, None
        while next_expected is not None:
            await self._note_missing(next_expected)
            next_expected = await anext(expected, None)

    async def _entries(self) -> AsyncIterator[StorageKey | UnexpectedFile]:
        after = self.progress.after
        for prefix in self._prefixes:
            if after.startswith(prefix.text) or after < prefix.text:
                async for entry in self._store.walk(prefix, after):
                    yield entry

    async def _note_missing(self, expected: Expected) -> None:
        with contextlib.suppress(ImageNotFound):
            await self._store.stat(expected.key)
            return  # it was saved after the listing had passed this key
        detail = "a row refers to it, but it does not exist"
        self._note(VerificationFinding(FindingKind.MISSING, expected.key.text, detail))

    async def _verify_image(self, key: StorageKey, expected: Expected | None) -> None:
        """Verify an image. On a mismatch, read the image again before reporting it."""
        is_second_read = False
        failures = 0
        while True:
            try:
                if await self._compare(key, expected, is_second_read=is_second_read):
                    break
                is_second_read = True
            except ImageNotFound:
                break  # it was deleted after it was listed
            except ReadOnly:
                raise
            except BackendUnavailable as error:
                await self._store.check()  # raises an error if the whole store is unreadable
                failures += 1
                if failures == _READ_ATTEMPTS:
                    self._note(VerificationFinding(FindingKind.UNREADABLE, key.text, str(error)))
                    break
        self.progress.images += 1

    async def _compare(
        self, key: StorageKey, expected: Expected | None, *, is_second_read: bool
    ) -> bool:
        """Compare an image's hash.

        Return False if the hash differs and the image must be read again.
        """
        inspected = await self._store.open(key)
        opened = inspected.opened
        try:
            image = opened.image
            recorded = image.sha256 or inspected.outdated_sha256
            reference = recorded or (expected.sha256 if expected else None)
            if reference is None and not self._adopt:
                detail = "no SHA-256 is recorded"
                self._note(VerificationFinding(FindingKind.UNKNOWN, key.text, detail))
                return True
            digest = hashlib.sha256()
            async for chunk in opened.chunks(0, image.size):
                await self._rate_limit.spend(len(chunk))
                digest.update(chunk)
                self.progress.size += len(chunk)
            sha256 = digest.digest()
            if _differs(image, sha256, reference, expected):
                if is_second_read:
                    await self._report(inspected, sha256, reference, expected)
                return is_second_read
            if image.sha256 is None and self._adopt and isinstance(self._store, AdoptsHashes):
                await self._store.adopt(inspected, sha256)
                self.progress.adopted += 1
        finally:
            opened.close()
        return True

    async def _report(
        self,
        inspected: Inspected,
        sha256: bytes,
        expected_sha256: bytes | None,
        expected: Expected | None,
    ) -> None:
        image = inspected.opened.image
        if (await self._store.stat(image.key)).save_id != image.save_id:
            return  # the image was replaced while it was read
        is_changed = image.sha256 is None and inspected.outdated_sha256
        kind = FindingKind.CHANGED if is_changed else FindingKind.DAMAGED
        reference = expected_sha256
        if expected is not None and expected_sha256 == sha256:
            reference = expected.sha256
        detail = f"its SHA-256 is {sha256.hex()} instead of {(reference or b'').hex()}"
        location = None
        if self._quarantine:
            location = await self._store.quarantine(image, _facts(image, kind, sha256, reference))
        self._note(VerificationFinding(kind, image.key.text, detail, location))

    def _note(self, finding: VerificationFinding) -> None:
        if self.progress.note(finding):
            self._on_finding(finding)


def _differs(
    image: StoredImage, sha256: bytes, reference: bytes | None, expected: Expected | None
) -> bool:
    if reference not in (None, sha256):
        return True
    if expected is None:
        return False
    return expected.sha256 not in (None, sha256) or expected.size not in (None, image.size)


async def _no_images() -> AsyncIterator[Expected]:
    return
    yield  # makes this function a generator


def _facts(image: StoredImage, kind: FindingKind, sha256: bytes, reference: bytes | None) -> bytes:
    """Return the content of facts.json, which is stored next to a quarantined image."""
    facts = {
        "key": image.key.text,
        "found": kind,
        "sha256": sha256.hex(),
        "sha256_when_saved": reference.hex() if reference else None,
        "size": image.size,
        "etag": image.etag,
        "content_type": image.content_type,
        "saved": datetime.fromtimestamp(image.modified_ns / 1e9, UTC).isoformat(),
        "quarantined": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(facts, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
