"""Verification of stored images against their recorded SHA-256 hashes, while servers may run.

An image that is replaced or deleted during the verification is not reported.
"""

import asyncio
import contextlib
import hashlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from stillroom.errors import BackendUnavailable, ConfigurationError, ImageNotFound, ReadOnly
from stillroom.maintenance.inspection.disk import DiskInspection
from stillroom.maintenance.inspection.port import Inspected, Inspection, UnexpectedFile
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.values import StoredImage

_MAX_PROBLEMS: Final = 10_000  # in the report; further problems are only counted
_MAX_UNKNOWN: Final = 1_000  # images without a hash in the report; further ones are only counted
_READ_ATTEMPTS: Final = 3


class FindingKind(StrEnum):
    """Kinds of problems that a verification finds."""

    DAMAGED = "damaged"  # the bytes do not match the recorded hash
    CHANGED = "changed"  # the file was modified after it was saved, and no longer matches
    UNREADABLE = "unreadable"  # the image cannot be read, although other images can
    STRAY = "stray"  # an unexpected file that cannot be an image
    UNKNOWN = "unknown"  # no hash is recorded, for a file copied manually; not a problem


@dataclass(frozen=True, slots=True)
class VerificationFinding:
    """Problem that a verification has found, described in one sentence."""

    kind: FindingKind
    name: str
    detail: str
    quarantined: str | None = None  # location in the quarantine if the image was moved there


@dataclass
class VerificationProgress:
    """Progress of a verification: the position to resume from, and the findings so far."""

    after: str = ""  # key up to which all images are verified
    images: int = 0
    size: int = 0  # number of bytes read
    adopted: int = 0  # number of hashes recorded
    counts: dict[FindingKind, int] = field(default_factory=dict)  # all findings
    findings: list[VerificationFinding] = field(default_factory=list)  # up to the limits above

    @property
    def problems(self) -> int:
        """Number of findings that an operator must handle."""
        return sum(count for kind, count in self.counts.items() if kind is not FindingKind.UNKNOWN)

    def __post_init__(self) -> None:
        self._keys_counted = {(finding.kind, finding.name) for finding in self.findings}

    def note(self, finding: VerificationFinding) -> bool:
        """Count a finding. Return False if an interrupted run has already counted it."""
        if (finding.kind, finding.name) in self._keys_counted:
            return False
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        unknown = finding.kind is FindingKind.UNKNOWN
        number = self.counts[FindingKind.UNKNOWN] if unknown else self.problems
        if number <= (_MAX_UNKNOWN if unknown else _MAX_PROBLEMS):
            self.findings.append(finding)
            self._keys_counted.add((finding.kind, finding.name))
        return True


@dataclass(eq=False)
class Verification:
    """Verification of one store. Cancel `run` to stop it; `progress` records the position."""

    store: Inspection
    prefixes: Sequence[KeyPrefix]  # of the images to verify, sorted
    _: KW_ONLY
    progress: VerificationProgress
    rate_limit: RateLimiter
    quarantine: bool = False  # if True, damaged and changed images are moved into quarantine
    adopt: bool = False  # if True, missing hashes are recorded (not possible for a bucket)
    on_finding: Callable[[VerificationFinding], None] = lambda _finding: None

    def __post_init__(self) -> None:
        if self.adopt and not isinstance(self.store, DiskInspection):
            raise ConfigurationError(
                "--adopt cannot be used with a bucket, since hashes cannot be added to stored "
                "objects: send Repr-Digest with each save instead"
            )

    async def run(self) -> None:
        """Verify all images with keys after `progress.after`."""
        tasks: deque[tuple[str, asyncio.Task[None]]] = deque()
        try:
            async with contextlib.aclosing(self._keys()) as keys:
                async for key in keys:
                    task = asyncio.ensure_future(self._verify_image(key))
                    tasks.append((key.text, task))
                    if len(tasks) >= self.store.at_once:
                        await self._finish_first(tasks)
            while tasks:
                await self._finish_first(tasks)
        finally:
            for _, task in tasks:
                task.cancel()
            await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)

    async def _finish_first(self, tasks: deque[tuple[str, asyncio.Task[None]]]) -> None:
        """Wait for the oldest task, and set `progress.after` to the key of its image."""
        key, task = tasks[0]
        await asyncio.shield(asyncio.wait([task]))
        tasks.popleft()
        task.result()
        self.progress.after = key

    async def _keys(self) -> AsyncGenerator[StorageKey, None]:
        after = self.progress.after
        for prefix in self.prefixes:
            if after.startswith(prefix.text) or after < prefix.text:
                async for entry in self.store.walk(prefix, after):
                    if isinstance(entry, UnexpectedFile):
                        self._note(VerificationFinding(FindingKind.STRAY, entry.name, entry.reason))
                    else:
                        yield entry

    async def _verify_image(self, key: StorageKey) -> None:
        """Verify an image. On a mismatch, read the image again before reporting it."""
        is_second_read, failures = False, 0
        while True:
            try:
                if await self._compare(key, is_second_read=is_second_read):
                    break
                is_second_read = True
            except ImageNotFound:
                break  # it was deleted after it was listed
            except ReadOnly:
                raise
            except BackendUnavailable as error:
                await self.store.check()  # raises an error if the whole store is unreadable
                failures += 1
                if failures == _READ_ATTEMPTS:
                    self._note(VerificationFinding(FindingKind.UNREADABLE, key.text, str(error)))
                    break
        self.progress.images += 1

    async def _compare(self, key: StorageKey, *, is_second_read: bool) -> bool:
        """Compare an image with its recorded hash. Return False if it must be read again."""
        inspected = await self.store.open(key)
        with contextlib.closing(inspected.opened) as opened:
            image = opened.image
            reference = image.sha256 or inspected.outdated_sha256
            if reference is None and not self.adopt:
                detail = "no SHA-256 is recorded"
                self._note(VerificationFinding(FindingKind.UNKNOWN, key.text, detail))
                return True
            digest = hashlib.sha256()
            async for chunk in opened.chunks(0, image.size):
                await self.rate_limit.spend(len(chunk))
                digest.update(chunk)
                self.progress.size += len(chunk)
            sha256 = digest.digest()
            if reference not in (None, sha256):
                if is_second_read:
                    await self._report(inspected, sha256, reference)
                return is_second_read
            if image.sha256 is None and self.adopt and isinstance(self.store, DiskInspection):
                await self.store.adopt(inspected, sha256)
                self.progress.adopted += 1
        return True

    async def _report(self, inspected: Inspected, sha256: bytes, reference: bytes | None) -> None:
        image = inspected.opened.image
        if (await self.store.stat(image.key)).save_id != image.save_id:
            return  # the image was replaced while it was read
        is_changed = image.sha256 is None and inspected.outdated_sha256
        kind = FindingKind.CHANGED if is_changed else FindingKind.DAMAGED
        detail = f"its SHA-256 is {sha256.hex()} instead of {(reference or b'').hex()}"
        location = None
        if self.quarantine:
            location = await self.store.quarantine(image, _facts(image, kind, sha256, reference))
        self._note(VerificationFinding(kind, image.key.text, detail, location))

    def _note(self, finding: VerificationFinding) -> None:
        if self.progress.note(finding):
            self.on_finding(finding)


def _facts(image: StoredImage, kind: FindingKind, sha256: bytes, reference: bytes | None) -> bytes:
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
