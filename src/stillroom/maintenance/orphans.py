"""Search for stored images without a database row (orphans), and rows without a stored image.

The search reads both the listing of `media/` and the rows in the order of resource ids. So it can
merge them, and its memory use does not grow with the library. Images are saved and deleted
meanwhile, so each mismatch is checked again before it is reported.
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
from stillroom.features.database.clock import now
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.intents import LEASE
from stillroom.features.library.recorded_bytes import is_recorded
from stillroom.features.library.resource import MediaResource
from stillroom.features.library.rows.repository import MediaRepository
from stillroom.paths import MEDIA_PREFIX, KeyPrefix, StorageKey
from stillroom.store.pages import each_page
from stillroom.store.port import ImageStorage
from stillroom.store.uploads import SavesUploads
from stillroom.store.values import ListQuery, StoredImage

_LISTED: Final = 5000
_ROWS: Final = 1000
_CANDIDATES: Final = 200  # number of keys per SQL statement

_KEY: Final = re.compile(
    MEDIA_PREFIX + r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/file\.[a-z0-9]{1,16}"
)

log = logging.getLogger("stillroom.media")


class MismatchKind(StrEnum):
    """Kinds of mismatches between stored images and rows."""

    ORPHAN = "orphan"  # an image that the library created, but to which no row refers
    YOUNG = "young"  # an orphan that is so new that an ingest may still insert its row
    FOREIGN = "foreign"  # an object that the library did not create; it is never deleted
    MISSING = "missing"  # a resource whose file does not exist


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Mismatch between the stored images and the rows."""

    kind: MismatchKind
    key: str
    image: StoredImage | None = None  # set for an orphan


@dataclass(slots=True)
class ScanStats:
    """Counts from one scan."""

    objects: int = 0  # number of objects below `media/`
    trash: int = 0  # files in the trash, which are orphans if they have no row
    resources: int = 0
    in_place: int = 0  # resources whose file is the original image, not a copy below `media/`
    orphans: int = 0
    young: int = 0
    foreign: int = 0
    missing: int = 0


class OrphanScan:
    """Comparison of stored images with rows. Images newer than `grace` are not orphans."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase, *, grace: timedelta) -> None:
        self._storage = storage
        self._database = database
        self._older_than = max(grace, LEASE)

    async def report(self, on_mismatch: Callable[[Mismatch], None], scanned: ScanStats) -> None:
        """Report every mismatch, and count it in `scanned`. Nothing is changed.

        Raise `ImplausibleScan` if the listing is empty, although the database contains resources.
        """
        async for findings in self._findings(scanned):
            for finding in findings:
                on_mismatch(finding)
        if scanned.objects == 0 and scanned.resources > scanned.in_place:
            raise ImplausibleScan(
                f"the listing of {MEDIA_PREFIX} is empty, but there are "
                f"{scanned.resources - scanned.in_place} resources: is this the right bucket?"
            )

    async def delete(
        self, on_mismatch: Callable[[Mismatch], None], scanned: ScanStats, *, max_percent: float
    ) -> None:
        """Report every mismatch. Then schedule the deletion of all orphans, in a second search.

        The sweeper (a background job) checks each orphan again before it deletes it. If more than
        `max_percent` of all images are orphans, none is deleted, and `ImplausibleScan` is raised.
        """
        await self.report(on_mismatch, scanned)
        if scanned.orphans == 0:
            return
        if scanned.resources == 0:
            raise ImplausibleScan(
                f"there are {scanned.orphans} orphans, but the database has no resources: is this "
                "the right database? Nothing was deleted"
            )
        files = scanned.objects + scanned.trash
        share = 100 * scanned.orphans / files
        if share > max_percent:
            raise ImplausibleScan(
                f"{scanned.orphans} of {files} images are orphans, {share:.0f} %, which "
                f"is more than the limit of {max_percent:g} %: is this the right database? "
                "Nothing was deleted"
            )
        rows = await self._database.rows()
        async for findings in self._findings(ScanStats()):
            if orphans := [finding.image for finding in findings if finding.image]:
                for key in await rows.deletions.mark_orphans(orphans):
                    log.info("scheduled the deletion of %r, which no resource uses", key.text)

    async def _findings(self, scanned: ScanStats) -> AsyncIterator[Sequence[Mismatch]]:
        rows = await self._database.rows()
        unknown: list[StorageKey] = []
        async for kind, subject in self._merge(rows, scanned):
            if isinstance(subject, MediaResource):
                if await self._is_missing(rows, subject):
                    scanned.missing += 1
                    yield [Mismatch(kind, subject.storage_key.text)]
            elif kind is MismatchKind.FOREIGN:
                scanned.foreign += 1
                yield [Mismatch(kind, subject.text)]
            else:
                unknown.append(subject)
                if len(unknown) == _CANDIDATES:
                    yield await self._check_orphans(rows, unknown, scanned)
                    unknown = []
        yield await self._check_orphans(rows, unknown, scanned)
        if isinstance(self._storage, SavesUploads):
            query = ListQuery(KeyPrefix(self._storage.uploads.trash_prefix), limit=_CANDIDATES)
            async for page in each_page(self._storage.list, query):
                scanned.trash += len(page.entries)
                yield await self._check_orphans(rows, [*map(StorageKey, page.entries)], scanned)

    async def _merge(
        self, rows: MediaRepository, scanned: ScanStats
    ) -> AsyncIterator[tuple[MismatchKind, MediaResource | StorageKey]]:
        """Merge listing and rows. Yield objects without a row, and rows without an object."""
        pages, objects = rows.resources.in_order(limit=_ROWS), self._each_object()
        resources = (resource async for page in pages for resource in page)
        resource, entry = await anext(resources, None), await anext(objects, None)
        has_bytes = False
        while resource is not None or entry is not None:
            key, owner = entry or (None, None)
            if key is not None and owner is None:
                scanned.objects += 1
                yield MismatchKind.FOREIGN, key
                entry = await anext(objects, None)
            elif resource is not None and (owner is None or resource.id < owner):
                scanned.resources += 1
                scanned.in_place += not resource.storage_key.is_media
                if not has_bytes:
                    yield MismatchKind.MISSING, resource
                resource, has_bytes = await anext(resources, None), False
            elif key is not None:
                scanned.objects += 1
                if resource is not None and key == resource.storage_key:
                    has_bytes = True
                else:
                    yield MismatchKind.ORPHAN, key
                entry = await anext(objects, None)

    async def _each_object(self) -> AsyncIterator[tuple[StorageKey, uuid.UUID | None]]:
        last, query = uuid.UUID(int=0), ListQuery(KeyPrefix(MEDIA_PREFIX), limit=_LISTED)
        async for page in each_page(self._storage.list, query):
            for text in page.entries:
                match = _KEY.fullmatch(text)
                owner = uuid.UUID(match[1]) if match else None
                if owner is not None and owner < last:
                    raise BackendUnavailable(
                        "cannot compare the storage with the database, because the storage does "
                        "not list its keys in order"
                    )
                last = owner or last
                yield StorageKey(text), owner

    async def _check_orphans(
        self, rows: MediaRepository, keys: Sequence[StorageKey], scanned: ScanStats
    ) -> Sequence[Mismatch]:
        findings = []
        for key in await rows.unknown_keys(keys):
            try:
                image = await self._storage.stat(key)
            except ImageNotFound:
                continue
            modified = datetime.fromtimestamp(image.modified_ns / 1e9, UTC)
            if now() - modified < self._older_than:
                scanned.young += 1
                findings.append(Mismatch(MismatchKind.YOUNG, key.text))
            else:
                scanned.orphans += 1
                findings.append(Mismatch(MismatchKind.ORPHAN, key.text, image=image))
        return findings

    async def _is_missing(self, rows: MediaRepository, resource: MediaResource) -> bool:
        try:
            current = await rows.resources.find(resource.id)
            image = await self._storage.stat(current.storage_key)
        except ResourceNotFound:
            return False
        except ImageNotFound:
            return True
        return not current.storage_key.is_media and not is_recorded(image, current)
