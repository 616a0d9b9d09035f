"""Every byte against its hash: what is damaged, changed, missing, unreadable or astray.

Reads as a client would, beside servers that save and delete meanwhile; whatever was replaced
or deleted while it was read is no discrepancy and not reported.
"""

import asyncio
import contextlib
import hashlib
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from stillroom.errors import BackendUnavailable, ConfigurationError, ImageNotFound, ReadOnly
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.inspection import AdoptsHashes, Inspected, Inspection, UnexpectedFile
from stillroom.storage.values import StoredImage

_MAX_PROBLEMS: Final = 10_000
_MAX_UNKNOWN: Final = 1_000
"""Kept for the report; more are counted, so that a ruined store costs no more memory, and one
full of files without a hash hides no problem."""

_READ_ATTEMPTS: Final = 3


class Kind(StrEnum):
    """What can be found."""

    DAMAGED = "damaged"
    """Its bytes are not those of its hash."""

    CHANGED = "changed"
    """Written to in place since it was saved: its bytes are not those of the hash noted then."""

    MISSING = "missing"
    """Something remembers it, and it is not there."""

    UNREADABLE = "unreadable"
    """The medium fails for this image, and not for others."""

    STRAY = "stray"
    """It is no image, and has no business there."""

    UNKNOWN = "unknown"
    """No SHA-256 is recorded. No problem: so is every file that was copied in by hand."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        name: The key; of strays whatever they are called.
        detail: For people.
        quarantined: Where it lies now, if it was moved.
    """

    kind: Kind
    name: str
    detail: str
    quarantined: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What something outside of the store remembers of an image, such as a row.

    Attributes:
        size: Bytes; None if it is not remembered.
        sha256: 32 bytes; None if it is not remembered.
    """

    key: StorageKey
    size: int | None = None
    sha256: bytes | None = None


ExpectedAfter = Callable[[str], AsyncIterator[Expected]]
"""What should be there behind a key, in the order of the store's listings."""


@dataclass
class Progress:
    """How far a verification has come; enough to go on from.

    Attributes:
        after: All images up to this key are done.
        images: Looked at.
        size: Bytes read.
        adopted: Hashes noted.
        counts: Findings by kind, also those that are not kept.
        findings: The first 10,000 problems, and the first 1,000 images without a hash.
    """

    after: str = ""
    images: int = 0
    size: int = 0
    adopted: int = 0
    counts: dict[Kind, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> int:
        """Findings that need an operator."""
        return sum(count for kind, count in self.counts.items() if kind is not Kind.UNKNOWN)

    def __post_init__(self) -> None:
        self._noted = {(finding.kind, finding.name) for finding in self.findings}

    def note(self, finding: Finding) -> bool:
        """Count a finding, and keep it while there is room.

        Returns:
            False if it was noted already: a resumed run looks at a few images again.
        """
        if (finding.kind, finding.name) in self._noted:
            return False
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        unknown = finding.kind is Kind.UNKNOWN
        so_far = self.counts[Kind.UNKNOWN] if unknown else self.problems
        if so_far <= (_MAX_UNKNOWN if unknown else _MAX_PROBLEMS):
            self.findings.append(finding)
            self._noted.add((finding.kind, finding.name))
        return True


class Pace:
    """Spends bytes at a bounded rate, shared by all who read."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = time.monotonic()

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self._bytes_per_s is not None

    async def spend(self, size: int) -> None:
        """Return when `size` bytes more may be read."""
        if self._bytes_per_s is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / self._bytes_per_s
        await asyncio.sleep(self._free_at - now)


class Verification:
    """One pass over a store. Cancel `run` to stop; `progress` tells where to go on."""

    def __init__(
        self,
        store: Inspection,
        *prefixes: KeyPrefix,
        progress: Progress,
        pace: Pace,
        quarantine: bool = False,
        adopt: bool = False,
        expected: ExpectedAfter | None = None,
        found: Callable[[Finding], None] = lambda _finding: None,
    ) -> None:
        """Prepare a pass.

        Args:
            store: Where the images are; it stays open.
            prefixes: Only keys that begin with one of them; in the order of keys.
            progress: Where to go on; it is kept up to date.
            pace: How fast to read.
            quarantine: Move damaged and changed images out of the readers' way.
            adopt: Note the hashes of images that have none.
            expected: What should be there. The media library's rows, for instance.
            found: Told of each finding at once.

        Raises:
            ConfigurationError: this store has no place for hashes.
        """
        if adopt and not isinstance(store, AdoptsHashes):
            raise ConfigurationError(
                "a bucket takes no hash for an object that is there already: "
                "announce it (Repr-Digest) when you save"
            )
        self.progress = progress
        self._store = store
        self._prefixes = prefixes
        self._pace = pace
        self._quarantine = quarantine
        self._adopt = adopt
        self._expected = expected
        self._found = found

    async def run(self) -> None:
        """Look at everything behind `progress.after`.

        Raises:
            BackendUnavailable: the store as a whole cannot be read any more.
        """
        under_way: deque[tuple[str, asyncio.Task[None]]] = deque()
        try:
            async with contextlib.aclosing(self._keys()) as keys:
                async for key, expected in keys:
                    task = asyncio.ensure_future(self._look_at(key, expected))
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
        """In their order, so that all up to `progress.after` are done at any moment."""
        key, task = under_way[0]
        await asyncio.shield(asyncio.wait([task]))
        under_way.popleft()
        task.result()
        self.progress.after = key

    async def _keys(self) -> AsyncGenerator[tuple[StorageKey, Expected | None], None]:
        """The images that are there; those that are not, and strays, are noted on the way."""
        wanted = self._expected(self.progress.after) if self._expected else _nothing()
        following = await anext(wanted, None)
        async for entry in self._entries():
            if isinstance(entry, UnexpectedFile):
                self._note(Finding(Kind.STRAY, entry.name, entry.reason))
                continue
            while following is not None and following.key < entry:
                await self._note_missing(following)
                following = await anext(wanted, None)
            if following is not None and following.key == entry:
                yield entry, following
                following = await anext(wanted, None)
            else:
                yield entry, None
        while following is not None:
            await self._note_missing(following)
            following = await anext(wanted, None)

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
        self._note(Finding(Kind.MISSING, expected.key.text, "it is remembered, and not there"))

    async def _look_at(self, key: StorageKey, expected: Expected | None) -> None:
        """Look at one image; what looks bad is looked at twice, as it may be the way to it."""
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
                await self._store.check()  # if nothing can be read, this image is not to blame
                failures += 1
                if failures == _READ_ATTEMPTS:
                    self._note(Finding(Kind.UNREADABLE, key.text, str(error)))
                    break
        self.progress.images += 1

    async def _compare(self, key: StorageKey, expected: Expected | None, *, sure: bool) -> bool:
        """Read an image, and judge it; False if it looks bad, and has to be read again."""
        inspected = await self._store.open(key)
        opened = inspected.opened
        try:
            image = opened.image
            noted = image.sha256 or inspected.outdated_sha256
            wanted = noted or (expected.sha256 if expected else None)
            if wanted is None and not self._adopt:
                self._note(Finding(Kind.UNKNOWN, key.text, "no SHA-256 is recorded"))
                return True
            digest = hashlib.sha256()
            async for chunk in opened.chunks(0, image.size):
                await self._pace.spend(len(chunk))
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
        kind = Kind.CHANGED if image.sha256 is None and inspected.outdated_sha256 else Kind.DAMAGED
        reference = wanted if wanted != sha256 or expected is None else expected.sha256
        detail = f"its SHA-256 is {sha256.hex()}, and was {(reference or b'').hex()}"
        where = None
        if self._quarantine:
            where = await self._store.quarantine(image, _facts(image, kind, sha256, reference))
        self._note(Finding(kind, image.key.text, detail, where))

    def _note(self, finding: Finding) -> None:
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


def _facts(image: StoredImage, kind: Kind, sha256: bytes, wanted: bytes | None) -> bytes:
    """What is known of a bad image, to be kept beside it."""
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
