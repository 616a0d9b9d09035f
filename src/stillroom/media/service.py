"""The media library's service: ingest of compute results, reading, changing and deleting resources.

The steps of an ingest, and what each leaves if the process dies after it (docs/adr/0012):

1. look at the source, hash it if need be, read its header        nothing
2. the intent: which copy will be made                               an intent
3. the copy                                                          an intent and its copy
4. one transaction: resource, mark of the source, end of the intent  everything

A second run starts at 1; the sweeper deletes the copies of intents that are left.

An ingest in place makes no copy. Its intent keeps sweepers from claiming a pending deletion of the
image, and step 3 is another look: no sweeper has claimed one before, and the image is still there.
"""

import asyncio
import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    PathConflict,
    PreconditionFailed,
    ResourceConflict,
    StorageFull,
)
from stillroom.media.database import MediaDatabase
from stillroom.media.index.filling import read_facts
from stillroom.media.index.values import kept_of
from stillroom.media.intents import lease_end, protected, renewed
from stillroom.media.recorded_bytes import has_its_bytes, is_intact, is_recorded
from stillroom.media.resource import (
    RELOCATED,
    Change,
    Intent,
    IntentLost,
    Mark,
    MarkClaimed,
    MediaResource,
    ResourcePage,
    ResourceQuery,
    SourceChanged,
    new_id,
    now,
)
from stillroom.media.source import Source, look_at, resource_of
from stillroom.media.tags import checked_number
from stillroom.paths import KeyPrefix, StorageKey, path_of_key
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import Location, StoredImage

_ATTEMPTS: Final = 5
"""Others may save over the source, win the race for its hash, or delete the resource meanwhile."""

_FIRST_PAUSE_S: Final = 0.05

INGEST_S: Final = 600.0
"""For one ingest with all its attempts. The largest copy of S3 has 5 GiB, and at 10 MB/s its hash
takes nine minutes. Shorter than `LEASE`: what is given up is still remembered by its intent."""

log = logging.getLogger("stillroom.media")


class MediaResourceService:
    """Takes compute results into the library, reads them and makes their deletion due."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase, *, grace: timedelta) -> None:
        """Keep images in `storage` and what is known of them in `database`.

        Args:
            storage: Where sources and copies are.
            database: Opened when it is first needed.
            grace: How long a source, or a deleted resource, stays before it is deleted for good.
        """
        self._storage = storage
        self._database = database
        self._grace = grace

    # Ingest ------------------------------------------------------------------------------

    async def ingest_from_storage_key(
        self,
        storage_key: StorageKey | str,
        *,
        relocate: bool = True,
        within: KeyPrefix | None = None,
        deadline: float | None = None,
    ) -> MediaResource:
        """Take the image at a key into the library; equal bytes give the one resource.

        Safe to repeat, also after a crash at any point, and in several processes at once.

        Args:
            storage_key: `compute/<path>`.
            relocate: Copy it to its own key below `media/`, and delete the source when the grace
                period is over. Else it is recorded where it lies.
            within: The folder to which the caller is confined. A resource from elsewhere that has
                these bytes stays as it is, and only what the bytes themselves say is returned.
            deadline: When to give up; without it in `INGEST_S`. A copy under way may still be made
                then: the sweeper deletes it by its intent.

        Raises:
            InvalidPath: the key is no image's.
            ImageNotFound: nothing at the key.
            ResourceConflict: such a resource is being deleted, or has lost its bytes; or the
                sweeper is deleting the image, which should be recorded in place.
            UnsupportedMedia: neither a raster image nor a video.
            StorageFull, BackendUnavailable: as their names say; try again.
        """
        if isinstance(storage_key, str):
            storage_key = StorageKey.of_image(path_of_key(storage_key, at=("storage_key",)))
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + INGEST_S
        try:
            async with asyncio.timeout_at(deadline):
                is_claimed = False
                for attempt in range(_ATTEMPTS):
                    if attempt:
                        await asyncio.sleep(_FIRST_PAUSE_S * 2**attempt)  # for the others to finish
                    try:
                        resource = await self._try_ingest(
                            storage_key, relocate=relocate, within=within
                        )
                    except (IntentLost, SourceChanged, MarkClaimed) as error:
                        is_claimed = isinstance(error, MarkClaimed)
                        continue
                    if resource is not None:
                        return resource
        except TimeoutError:
            raise BackendUnavailable("the ingest has taken too long: try again later") from None
        if is_claimed:
            raise ResourceConflict("the image is being deleted: save it again, and ingest it then")
        raise BackendUnavailable("the image is changed again and again while it is ingested")

    async def _try_ingest(
        self, key: StorageKey, *, relocate: bool, within: KeyPrefix | None
    ) -> MediaResource | None:
        """One attempt; None where another transaction changed what it relied on.

        Raises:
            IntentLost, SourceChanged, MarkClaimed: as None, with the reason.
        """
        source = await look_at(self._storage, key)
        resource = await self._ingest(source, relocate=relocate, within=within)
        facts = kept_of(source.probed.generation)  # the index may not have them yet
        return resource and dataclasses.replace(resource, generation=facts or resource.generation)

    async def _ingest(
        self, source: "Source", *, relocate: bool, within: KeyPrefix | None
    ) -> MediaResource | None:
        """As `_try_ingest`, of what was looked at."""
        known = await (await self._database.rows()).resources.find_by_hash(source.sha256)
        if known is not None and within is not None and not known.is_from(within):
            return await self._join(known, source, relocate=relocate)
        if (
            known is not None
            and await has_its_bytes(self._storage, known)
            and (known.storage_key.is_media or not relocate)
        ):
            return await self._keep(known, source, relocate=relocate)
        if known is None:
            resource = resource_of(new_id(), source)
        else:
            resource = dataclasses.replace(known, deleted_at=None)
        if relocate:
            return await self._relocate(resource, known, source)
        return await self._record(resource, known, source)

    async def _join(
        self, known: MediaResource, source: "Source", *, relocate: bool
    ) -> MediaResource | None:
        """Use the resource of another folder: not moved, not revived, and without its texts."""
        if known.deleted_at is not None or not await has_its_bytes(self._storage, known):
            raise ResourceConflict
        in_place = not known.storage_key.is_media  # there others may replace it: the source stays
        kept = await self._keep(known, source, relocate=relocate and not in_place, revive=False)
        if kept is None:
            return None
        return dataclasses.replace(
            kept,
            storage_key=source.image.key if in_place else kept.storage_key,
            source_key=None,
            width=source.probed.width,
            height=source.probed.height,
            color_profile=source.probed.color_profile,
            duration=source.probed.duration,
            ai_mark=source.probed.ai_mark,
            dominant_color=None,
            alt_text=None,
            caption=None,
            tags=(),
            protected=False,
        )

    async def _keep(
        self, known: MediaResource, source: "Source", *, relocate: bool, revive: bool = True
    ) -> MediaResource | None:
        rows = await self._database.rows()
        key, save_id = known.storage_key, known.save_id
        if relocate:
            return await rows.resources.keep(
                known, storage_key=key, save_id=save_id, source=self._mark(source), revive=revive
            )
        async with protected(self._storage, rows, source) as intent:
            return await rows.resources.keep(
                known,
                storage_key=key,
                save_id=save_id,
                skipped=source.image.key,
                in_place=intent,
                revive=revive,
            )

    async def _record(
        self, resource: MediaResource, known: MediaResource | None, source: "Source"
    ) -> MediaResource | None:
        """Record an image in place."""
        rows = await self._database.rows()
        key, save_id = source.image.key, source.image.save_id
        resource = dataclasses.replace(resource, storage_key=key, save_id=save_id)
        async with protected(self._storage, rows, source) as intent:
            if known is not None:
                return await rows.resources.keep(
                    known, storage_key=key, save_id=save_id, in_place=intent
                )
            return resource if await rows.resources.add(resource, intent=intent) else None

    async def _relocate(
        self, resource: MediaResource, known: MediaResource | None, source: "Source"
    ) -> MediaResource | None:
        """Intent, copy, transaction."""
        rows = await self._database.rows()
        media_key = StorageKey.of_media(resource.id, resource.extension)
        intent = Intent(media_key, resource.id, source.image.key, lease_end())
        if not await rows.intents.write(intent):
            return None
        async with renewed(rows, intent):
            copied = await self._copy(source, media_key, is_new=known is None)
        if copied is None:
            return None
        mark = self._mark(source)
        if known is not None:
            kept = None
            with contextlib.suppress(IntentLost):
                kept = await rows.resources.keep(
                    known, storage_key=media_key, save_id=copied.save_id, source=mark
                )
            if kept is None:  # deleted meanwhile, and perhaps swept before this copy came
                await asyncio.shield(self._leave_to_sweeper(intent))  # also at the deadline
            return kept
        resource = dataclasses.replace(resource, storage_key=media_key, save_id=copied.save_id)
        try:
            added = await rows.resources.add(resource, intent=media_key, source=mark)
        except IntentLost:  # the sweeper may have looked before the copy came, and looks no more
            with contextlib.suppress(ImageNotFound):
                await self._storage.delete(media_key)
            raise
        if added:
            return resource
        await rows.intents.release(media_key)  # another resource has these bytes
        return None

    async def _leave_to_sweeper(self, intent: Intent) -> None:
        """Write the intent of a copy that no resource has, so that the sweeper deletes it."""
        rows = await self._database.rows()
        for attempt in range(_ATTEMPTS):
            if await rows.intents.write(dataclasses.replace(intent, lease_until=lease_end())):
                return
            # The sweeper may have looked before the copy came: it must look once more.
            await asyncio.sleep(_FIRST_PAUSE_S * 2**attempt)
        raise BackendUnavailable("the sweeper is clearing an earlier copy away")

    async def _copy(
        self, source: "Source", media_key: StorageKey, *, is_new: bool
    ) -> StoredImage | None:
        """Copy the very save that was looked at; None if the source is another one by now.

        Movers of one resource copy to one key, so that none of them may ever put other bytes there.
        """
        image = source.image
        try:
            return await self._storage.copy(image.key, media_key, save_id=image.save_id)
        except (ImageNotFound, PathConflict, PreconditionFailed, StorageFull) as error:
            rows = await self._database.rows()
            # No other ingest uses a new key, so here is nothing to clear away.
            await (rows.intents.remove(media_key) if is_new else rows.intents.release(media_key))
            if isinstance(error, PreconditionFailed):
                return None
            raise

    def _mark(self, source: "Source") -> Mark:
        image, due_at = source.image, now() + self._grace
        return Mark(image.key, image.save_id, RELOCATED, due_at, content_hash=source.sha256)

    # Reading and changing ----------------------------------------------------------------

    async def find(self, resource_id: uuid.UUID) -> MediaResource:
        """One resource.

        Raises:
            ResourceNotFound, BackendUnavailable: as their names say.
        """
        return await (await self._database.rows()).resources.find(resource_id)

    async def with_facts(self, resource: MediaResource) -> MediaResource:
        """The same, with its generation read from the bytes if the index does not know it yet."""
        if resource.generation is not None:
            return resource
        with contextlib.suppress(ImageNotFound, BackendUnavailable):
            index = (await self._database.rows()).search
            for key in (resource.storage_key, resource.source_key):
                known = None if key is None else await index.find(key)
                if known is not None and known.image.sha256 == resource.content_hash:
                    return dataclasses.replace(resource, generation=known.generation)
            image = await self._storage.stat(resource.storage_key)
            if is_intact(image, resource):
                found = await read_facts(self._storage, image)
                return dataclasses.replace(resource, generation=found.generation)
        return resource

    async def page(self, query: ResourceQuery) -> ResourcePage:
        """A page of the library, newest first.

        Raises:
            BackendUnavailable: as its name says.
        """
        return await (await self._database.rows()).resources.page(query)

    async def locate(self, resource: MediaResource) -> Location:
        """Where a resource's bytes can be had; close a `LocalImage` after use.

        Raises:
            ImageNotFound: they are gone; or, recorded in place, saved over with others.
            BackendUnavailable: as its name says.
        """
        key = resource.storage_key
        if not key.is_media and not is_recorded(await self._storage.stat(key), resource):
            raise ImageNotFound
        return await self._storage.locate(key)

    async def change(
        self,
        resource_id: uuid.UUID,
        change: Change,
        *,
        only_unset: bool = False,
        check: Callable[[MediaResource], None] | None = None,
    ) -> MediaResource:
        """Set texts, protection and facts; of these only what is null, with `only_unset`.

        Args:
            resource_id: Of the resource.
            change: The new values.
            only_unset: Leave alone what has a value.
            check: Is shown the resource that is about to be changed, and raises if it must not be.

        Raises:
            ResourceNotFound, BackendUnavailable: as their names say.
            Exception: what `check` raises; nothing is changed then.
        """
        rows = await self._database.rows()
        return await rows.resources.change(resource_id, change, only_unset=only_unset, check=check)

    async def change_tags(
        self, resource_id: uuid.UUID, wanted: Callable[[frozenset[str]], frozenset[str]]
    ) -> Sequence[str]:
        """Replace a resource's tags by what `wanted` makes of them; the tags are sorted.

        Raises:
            InvalidParameter: these would be too many.
            ResourceNotFound, BackendUnavailable: as their names say.
        """
        rows = await self._database.rows()
        found = await rows.tags.change(resource_id, lambda tags: checked_number(wanted(tags)))
        return sorted(found)

    async def delete(
        self, resource_id: uuid.UUID, *, check: Callable[[MediaResource], None] | None = None
    ) -> MediaResource:
        """Take a resource out of the library; its bytes go when the grace period is over.

        What was recorded in place stays where it is, as the compute result that it was. `check`
        is as of `change`.

        Raises:
            ResourceNotFound, ResourceProtected, BackendUnavailable: as their names say.
            Exception: what `check` raises; nothing is changed then.
        """
        rows, due_at = await self._database.rows(), now() + self._grace
        return await rows.resources.delete(resource_id, due_at=due_at, check=check)
