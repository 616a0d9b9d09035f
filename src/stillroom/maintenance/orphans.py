"""The scan for orphans: bytes that no row knows, and rows without bytes.

Two streams, both in the order of ids, are merged: the listing of `media/`, and the rows. Neither is
held, so a million of each take no more memory than a thousand. What seems to be wrong is looked at
once more before it is said: while a scan goes on, ingests and sweeps do, too.
"""

import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from stillroom.errors import BackendUnavailable, ImageNotFound, ImplausibleScan, ResourceNotFound
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import MediaResource, now
from stillroom.media.rows.resources import MediaRepository
from stillroom.media.service import LEASE, is_recorded
from stillroom.paths import MEDIA_PREFIX, KeyPrefix, StorageKey
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery, StoredImage

MAX_PERCENT: Final = 10
"""More orphans than that are no remnants of crashes, but the wrong database or bucket."""

_LISTED: Final = 5000
_ROWS: Final = 1000
_CANDIDATES: Final = 200
"""Looked up together, in one statement."""

_OURS: Final = re.compile(
    MEDIA_PREFIX + r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/file\.[a-z0-9]{1,16}"
)

log = logging.getLogger("stillroom.media")


class Kind(StrEnum):
    """What is wrong.

    Attributes:
        ORPHAN: Bytes below `media/`, made by the library, that no row, intent or mark knows.
        YOUNG: The same, but so new that an ingest may be about to record them.
        FOREIGN: Something below `media/` that the library has not made; it is never deleted.
        MISSING: A resource without its bytes.
    """

    ORPHAN = "orphan"
    YOUNG = "young"
    FOREIGN = "foreign"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: What.
        key: Where.
        resource_id: Of a resource without bytes.
        image: Of an orphan: the facts of the save that was found.
    """

    kind: Kind
    key: str
    resource_id: uuid.UUID | None = None
    image: StoredImage | None = None


@dataclass(slots=True)
class Scanned:
    """What a scan has gone through.

    Attributes:
        objects: Below `media/`.
        resources: Rows, also of what was recorded in place.
        in_place: Of these, those that were.
        orphans: Findings of this kind, and so on.
    """

    objects: int = 0
    resources: int = 0
    in_place: int = 0
    orphans: int = 0
    young: int = 0
    foreign: int = 0
    missing: int = 0


class OrphanScan:
    """Compares one library's bytes with its rows."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase, *, grace: timedelta) -> None:
        """Compare `storage` with `database`.

        Args:
            storage: Where the bytes are.
            database: Where the rows are.
            grace: Only what is older is an orphan; and older than an ingest may take.
        """
        self._storage = storage
        self._database = database
        self._older_than = max(grace, LEASE)

    async def report(self, say: Callable[[Finding], None], scanned: Scanned) -> None:
        """Go through everything once, and change nothing.

        Args:
            say: Gets each finding.
            scanned: Is kept up to date on the way.

        Raises:
            BackendUnavailable: the listing or the database failed; what was said holds.
            ImplausibleScan: nothing at all lies there, although there are rows.
        """
        async for findings in self._findings(scanned):
            for finding in findings:
                say(finding)
        if scanned.objects == 0 and scanned.resources > scanned.in_place:
            raise ImplausibleScan(
                f"the listing of {MEDIA_PREFIX} is empty, but there are "
                f"{scanned.resources - scanned.in_place} resources: is this the right bucket?"
            )

    async def delete(
        self,
        say: Callable[[Finding], None],
        scanned: Scanned,
        *,
        max_percent: float = MAX_PERCENT,
    ) -> None:
        """Go through everything, and if the share of orphans is plausible, mark them all.

        They are marked in a second pass, for the sweeper, which checks them again when it deletes
        them. So a scan that fails half-way has marked nothing, or what certainly was an orphan.

        Args:
            say: Gets each finding.
            scanned: Of the first pass.
            max_percent: More orphans than this, of what lies there, are implausible.

        Raises:
            BackendUnavailable: the listing or the database failed.
            ImplausibleScan: as its name says; nothing was marked.
        """
        await self.report(say, scanned)
        if scanned.orphans == 0:
            return
        if scanned.resources == 0:
            raise ImplausibleScan(
                f"there are {scanned.orphans} orphans and no resources at all: is this the right "
                "database? Nothing was deleted"
            )
        share = 100 * scanned.orphans / scanned.objects
        if share > max_percent:
            raise ImplausibleScan(
                f"{scanned.orphans} of {scanned.objects} images are orphans, {share:.0f} %, and "
                f"more than {max_percent:g} % are not believed: is this the right database? "
                "Nothing was deleted"
            )
        rows = await self._database.rows()
        async for findings in self._findings(Scanned()):
            orphans = [
                found.image for found in findings if found.image and found.kind is Kind.ORPHAN
            ]
            if orphans:
                for key in await rows.queue.mark_orphans(orphans):
                    log.info("marked %r: an orphan", key.text)

    # Merging -----------------------------------------------------------------------------

    async def _findings(self, scanned: Scanned) -> AsyncIterator[Sequence[Finding]]:
        """Findings in portions, each looked at twice."""
        rows = await self._database.rows()
        unknown: list[StorageKey] = []
        async for kind, subject in self._merged(rows, scanned):
            if isinstance(subject, MediaResource):
                if await self._is_missing(rows, subject):
                    scanned.missing += 1
                    yield [Finding(kind, subject.storage_key.text, subject.id)]
            elif kind is Kind.FOREIGN:
                scanned.foreign += 1
                yield [Finding(kind, subject.text)]
            else:
                unknown.append(subject)
                if len(unknown) == _CANDIDATES:
                    yield await self._orphans(rows, unknown, scanned)
                    unknown = []
        yield await self._orphans(rows, unknown, scanned)

    async def _merged(
        self, rows: MediaRepository, scanned: Scanned
    ) -> AsyncIterator[tuple[Kind, MediaResource | StorageKey]]:
        """What is in one stream and not in the other, or recorded in place."""
        resources, objects = _each_resource(rows), self._each_object()
        resource, entry = await anext(resources, None), await anext(objects, None)
        has_bytes = False
        while resource is not None or entry is not None:
            if entry is not None and entry.owner is None:
                scanned.objects += 1
                yield Kind.FOREIGN, entry.key
                entry = await anext(objects, None)
            elif resource is not None and (
                entry is None or entry.owner is None or resource.id < entry.owner
            ):
                scanned.resources += 1
                scanned.in_place += not resource.storage_key.is_media
                if not has_bytes:
                    yield Kind.MISSING, resource
                resource, has_bytes = await anext(resources, None), False
            elif entry is not None:
                scanned.objects += 1
                if resource is not None and entry.key == resource.storage_key:
                    has_bytes = True
                else:
                    yield Kind.ORPHAN, entry.key
                entry = await anext(objects, None)

    async def _each_object(self) -> "AsyncIterator[_Entry]":
        """All of `media/`, in the order of ids.

        Raises:
            BackendUnavailable: the listing failed, or is in another order.
        """
        after, more, last = "", True, None
        while more:
            page = await self._storage.list(
                ListQuery(KeyPrefix(MEDIA_PREFIX), after=after, limit=_LISTED)
            )
            for text in page.entries:
                ours = _OURS.fullmatch(text)
                owner = uuid.UUID(ours[1]) if ours else None
                if owner is not None:
                    if last is not None and owner < last:
                        raise BackendUnavailable("the listing is in no order that can be compared")
                    last = owner
                yield _Entry(StorageKey(text), owner)
            more = page.more
            after = page.entries[-1] if page.entries else after

    async def _orphans(
        self, rows: MediaRepository, keys: Sequence[StorageKey], scanned: Scanned
    ) -> Sequence[Finding]:
        """Those of the keys that nothing remembers, as they are by now."""
        findings = []
        for key in await rows.queue.unknown(keys):
            try:
                image = await self._storage.stat(key)
            except ImageNotFound:
                continue
            modified = datetime.fromtimestamp(image.modified_ns / 1e9, UTC)
            if now() - modified < self._older_than:
                scanned.young += 1
                findings.append(Finding(Kind.YOUNG, key.text))
            else:
                scanned.orphans += 1
                findings.append(Finding(Kind.ORPHAN, key.text, image=image))
        return findings

    async def _is_missing(self, rows: MediaRepository, resource: MediaResource) -> bool:
        """Whether a resource has no bytes, as it is by now."""
        try:
            current = await rows.find(resource.id)
        except ResourceNotFound:
            return False
        try:
            found = await self._storage.stat(current.storage_key)
        except ImageNotFound:
            return True
        return not current.storage_key.is_media and not is_recorded(found, current)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What lies below `media/`, and whose it seems to be."""

    key: StorageKey
    owner: uuid.UUID | None


async def _each_resource(rows: MediaRepository) -> AsyncIterator[MediaResource]:
    """All resources in the order of ids, also those whose deletion is due."""
    after = None
    while page := await rows.in_order(after=after, limit=_ROWS):
        for resource in page:
            yield resource
        after = page[-1].id
