"""Media library service: ingests, reads, changes and deletes resources.

An ingest copies an image (the source) into the library in four steps (docs/adr/0012):

1. Read the source's header, and hash the source if necessary.
2. Write an intent, a row with the key of the copy.
3. Copy the source.
4. In one transaction, insert the resource, schedule the deletion of the source, and delete the
   intent.

If the process crashes after step 2 or 3, a sweeper (background job) deletes the intent and the copy
after the intent's lease has expired.

An ingest without a copy (`relocate=False`) records the source at its own key. The intent then
prevents sweepers from deleting the source. Step 3 only checks that no sweeper has begun to delete
the source, and that the source still exists.

If a video is copied, its poster image is also ingested, as a resource of its own.
"""

import asyncio
import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Final

from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    PathConflict,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
    StillroomError,
    StorageFull,
)
from stillroom.features.database.clock import now
from stillroom.features.database.tags import checked_number
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.intents import LEASE, protected, renewed
from stillroom.features.library.recorded_bytes import has_its_bytes, is_intact, is_recorded
from stillroom.features.library.resource import (
    IMAGE,
    RELOCATED,
    RULE,
    VIDEO,
    Change,
    Intent,
    IntentLost,
    Mark,
    MarkClaimed,
    MediaResource,
    ResourcePage,
    ResourceQuery,
    SourceChanged,
)
from stillroom.features.library.source import Source, new_resource, poster_key, read_source
from stillroom.features.library.sweeper import Sweeper
from stillroom.features.search.database import search_rows
from stillroom.features.search.filling import read_facts
from stillroom.features.search.values import kept_of
from stillroom.paths import KeyPrefix, StorageKey, path_of_key
from stillroom.store.port import ImageStorage
from stillroom.store.values import Location, StoredImage

_ATTEMPTS: Final = 5  # concurrent saves and deletions can make an attempt fail
_FIRST_PAUSE_S: Final = 0.05

# Time limit for an ingest in seconds, including all attempts. S3 copies at most 5 GiB, which take
# nine minutes to hash at 10 MB/s. The limit is shorter than the lease of the ingest's intent.
INGEST_S: Final = 600.0
_POSTER_S: Final = 60.0  # time limit for the poster, in addition to the ingest of its video

log = logging.getLogger("stillroom.media")


class MediaResourceService:
    """Operations on the resources of the media library.

    All methods raise `BackendUnavailable` if the storage or the database fails.
    """

    def __init__(self, storage: ImageStorage, database: MediaDatabase, *, grace: timedelta) -> None:
        self._storage = storage
        self._database = database
        self._grace = grace
        # This sweeper does not know the retention rules, so it skips their deletions.
        self._sweeper = Sweeper(storage, database, leaves=[RULE])
        # Called to erase copies of a resource elsewhere, with its keys and its SHA-256.
        self.erasing: list[Callable[[Collection[StorageKey], bytes | None], Awaitable[object]]] = []

    # Ingest ------------------------------------------------------------------------------

    async def ingest_from_storage_key(
        self,
        storage_key: StorageKey | str,
        *,
        relocate: bool = True,
        within: KeyPrefix | None = None,
        deadline: float | None = None,
    ) -> MediaResource:
        """Ingest the image at a storage key. Identical bytes map to one resource.

        This method is idempotent, also after a crash, and safe in several processes at once.

        Args:
            storage_key: `compute/<path>`.
            relocate: True to copy the image to a key below `media/`, and delete the source after
                the grace period. False to record the image at its own key, without a copy.
            within: Folder to which the caller is confined. If a resource from another folder has
                the same bytes, that resource is not changed, and only metadata from the file is
                returned.
            deadline: Event-loop time at which to give up; default: in `INGEST_S` seconds. If the
                copy completes later, a sweeper deletes it.

        Raises:
            InvalidPath, ImageNotFound: the key is not an image's key, or there is no image.
            ResourceConflict: the resource with these bytes is being deleted or its file is missing;
                or a sweeper is deleting the image that is to be recorded in place.
            UnsupportedMedia: the image is neither a raster image nor a video.
            BackendUnavailable, StorageFull: the storage or database failed, or the deadline passed.
        """
        if isinstance(storage_key, str):
            storage_key = StorageKey.of_image(path_of_key(storage_key, at=("storage_key",)))
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + INGEST_S
        try:
            async with asyncio.timeout_at(deadline):
                resource = await self._try_ingest(storage_key, relocate=relocate, within=within)
        except TimeoutError:
            raise BackendUnavailable("the ingest has taken too long: try again later") from None
        is_moved = relocate and resource.storage_key.is_media
        if is_moved and resource.resource_type == VIDEO and resource.source_key == storage_key:
            await self._relocate_poster(storage_key, within)
        return resource

    async def _try_ingest(
        self, storage_key: StorageKey, *, relocate: bool, within: KeyPrefix | None
    ) -> MediaResource:
        is_claimed = False
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_FIRST_PAUSE_S * 2**attempt)  # let other ingests finish
            try:
                source = await read_source(self._storage, storage_key)
                resource = await self._ingest(source, relocate=relocate, within=within)
            except (IntentLost, SourceChanged, MarkClaimed) as error:
                is_claimed = isinstance(error, MarkClaimed)
                continue
            if resource is not None:
                facts = kept_of(source.probed.generation)  # perhaps not indexed yet
                return dataclasses.replace(resource, generation=facts or resource.generation)
        if is_claimed:
            raise ResourceConflict("the image is being deleted: save it again, and then ingest it")
        raise BackendUnavailable("the image kept changing during the ingest: try again")

    async def _relocate_poster(self, video: StorageKey, within: KeyPrefix | None) -> None:
        # A poster is found by its source key. If a resource from another path has the same bytes,
        # that resource would keep its source key. The poster then remains where it is.
        key = poster_key(video)
        try:
            async with asyncio.timeout(_POSTER_S):
                poster = await read_source(self._storage, key) if key else None
                if poster is None or poster.probed.resource_type != IMAGE:
                    return
                known = await (await self._database.rows()).resources.find_by_hash(poster.sha256)
                if known is None or known.source_key == poster.image.key:
                    await self.ingest_from_storage_key(poster.image.key, within=within)
        except ImageNotFound:
            pass
        except (StillroomError, TimeoutError) as error:
            log.warning("cannot ingest the poster of the video %s: %r", video.text, error)

    async def _ingest(
        self, source: Source, *, relocate: bool, within: KeyPrefix | None
    ) -> MediaResource | None:
        # None means that a concurrent transaction prevented the ingest.
        known = await (await self._database.rows()).resources.find_by_hash(source.sha256)
        if known is not None and within is not None and not known.is_from(within):
            return await self._join(known, source, relocate=relocate)
        if (
            known is not None
            and await has_its_bytes(self._storage, known)
            and (known.storage_key.is_media or not relocate)
        ):
            return await self._keep(known, source, relocate=relocate)
        if relocate:
            return await self._relocate(known, source)
        return await self._record(known, source)

    async def _join(
        self, known: MediaResource, source: Source, *, relocate: bool
    ) -> MediaResource | None:
        # The resource is from another folder, so its texts and tags are not shown.
        if known.deleted_at is not None or not await has_its_bytes(self._storage, known):
            raise ResourceConflict
        # Keep the source if the resource is recorded in place: clients may overwrite that file.
        in_place = not known.storage_key.is_media
        kept = await self._keep(known, source, relocate=relocate and not in_place, revive=False)
        if kept is None:
            return None
        return dataclasses.replace(
            kept,
            storage_key=source.image.key if in_place else kept.storage_key,
            source_key=None,
            **source.probed.properties,
            dominant_color=None,
            alt_text=None,
            caption=None,
            tags=(),
            protected=False,
        )

    async def _keep(
        self, known: MediaResource, source: Source, *, relocate: bool, revive: bool = True
    ) -> MediaResource | None:
        rows = await self._database.rows()
        if relocate:
            return await rows.resources.keep(known, source=self._mark(source), revive=revive)
        file = source.image if source.image.key == known.storage_key else None
        async with protected(self._storage, rows, source) as intent:
            return await rows.resources.keep(known, file=file, in_place=intent, revive=revive)

    async def _record(self, known: MediaResource | None, source: Source) -> MediaResource | None:
        rows = await self._database.rows()
        resource = known or new_resource(source)
        async with protected(self._storage, rows, source) as intent:
            if known is not None:
                return await rows.resources.keep(known, file=source.image, in_place=intent)
            added = await rows.resources.add(resource, intent=intent.media_key)
            return resource if added else None

    async def _relocate(self, known: MediaResource | None, source: Source) -> MediaResource | None:
        rows = await self._database.rows()
        resource = known or new_resource(source)
        media_key = StorageKey.of_media(resource.id, resource.extension)
        intent = Intent(media_key, resource.id, source.image.key)
        if not await rows.intents.write(intent, lease=LEASE):
            return None
        async with renewed(rows, intent):
            copied = await self._copy(source, media_key, is_new=known is None)
        if copied is None:
            return None
        mark = self._mark(source)
        if known is not None:
            kept = None
            with contextlib.suppress(IntentLost):
                kept = await rows.resources.keep(known, file=copied, source=mark)
            if kept is None:  # deleted, perhaps with its file, before this copy was made
                await asyncio.shield(self._leave_to_sweeper(intent))  # also at the deadline
            return kept
        resource = dataclasses.replace(resource, storage_key=media_key, save_id=copied.save_id)
        try:
            added = await rows.resources.add(resource, intent=media_key, source=mark)
        except IntentLost:  # the sweeper may have checked before the copy existed
            with contextlib.suppress(ImageNotFound):
                await self._storage.delete(media_key)
            raise
        if added:
            return resource
        await rows.intents.release(media_key)  # another resource has these bytes
        return None

    async def _leave_to_sweeper(self, intent: Intent) -> None:
        rows = await self._database.rows()
        for attempt in range(_ATTEMPTS):
            if await rows.intents.write(intent, lease=LEASE):
                return
            # A sweeper may have checked before the copy existed, so it must check again.
            await asyncio.sleep(_FIRST_PAUSE_S * 2**attempt)
        raise BackendUnavailable(
            "cannot ingest the image while an earlier copy of it is being deleted: try again later"
        )

    async def _copy(
        self, source: Source, media_key: StorageKey, *, is_new: bool
    ) -> StoredImage | None:
        image = source.image  # no other version, since concurrent ingests may write to `media_key`
        try:
            return await self._storage.copy(image.key, media_key, save_id=image.save_id)
        except (ImageNotFound, PathConflict, PreconditionFailed, StorageFull) as error:
            rows = await self._database.rows()
            # Other ingests cannot use a new key, so the sweeper has no copy to delete.
            await (rows.intents.remove(media_key) if is_new else rows.intents.release(media_key))
            if isinstance(error, PreconditionFailed):  # the source was saved again
                return None
            raise

    def _mark(self, source: Source) -> Mark:
        image, due_at = source.image, now() + self._grace
        return Mark(image.key, image.save_id, RELOCATED, due_at, content_hash=source.sha256)

    # Reading and changing ----------------------------------------------------------------

    async def find(self, resource_id: uuid.UUID) -> MediaResource:
        """Return the resource with this id, or raise `ResourceNotFound`."""
        return await (await self._database.rows()).resources.find(resource_id)

    async def with_facts(self, resource: MediaResource) -> MediaResource:
        """Return the resource with generation metadata, read from the search index or the file."""
        if resource.generation is not None:
            return resource
        with contextlib.suppress(ImageNotFound, BackendUnavailable):
            index = await search_rows(self._database)
            for key in (resource.storage_key, resource.source_key):
                indexed = None if key is None else await index.find(key)
                if indexed is not None and indexed.image.sha256 == resource.content_hash:
                    return dataclasses.replace(resource, generation=indexed.metadata.generation)
            image = await self._storage.stat(resource.storage_key)
            if is_intact(image, resource):
                indexed = await read_facts(self._storage, image)
                return dataclasses.replace(resource, generation=indexed.metadata.generation)
        return resource

    async def page(self, query: ResourceQuery) -> ResourcePage:
        """Return a page of resources, newest first."""
        return await (await self._database.rows()).resources.page(query)

    async def locate(self, resource: MediaResource) -> Location:
        """Return the location of a resource's file. If it is a `LocalImage`, the caller closes it.

        Raises `ImageNotFound` if the file no longer exists, or was overwritten. Clients can
        overwrite only a file that was not copied into the library.
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
        """Change fields of a resource. With `only_unset`, change only fields that are null.

        `check` is called with the resource before the change. If it raises an error, or if there is
        no such resource (`ResourceNotFound`), nothing is changed.
        """
        rows = await self._database.rows()
        return await rows.resources.change(resource_id, change, only_unset=only_unset, check=check)

    async def change_tags(
        self, resource_id: uuid.UUID, replace: Callable[[frozenset[str]], frozenset[str]]
    ) -> Sequence[str]:
        """Replace a resource's tags with `replace(tags)`. Return the new tags, sorted.

        Raises `InvalidParameter` if there would be too many tags, or `ResourceNotFound`.
        """
        rows = await self._database.rows()
        tags = await rows.tags.change(resource_id, lambda tags: checked_number(replace(tags)))
        return sorted(tags)

    async def delete(
        self, resource_id: uuid.UUID, *, check: Callable[[MediaResource], None] | None = None
    ) -> MediaResource:
        """Delete a resource. The library's copy of the file is deleted after the grace period.

        If the library has no copy, the original file is kept. `check` gets the resource first, and
        may raise an error. Raises `ResourceNotFound` or `ResourceProtected`.
        """
        rows, due_at = await self._database.rows(), now() + self._grace
        return await rows.resources.delete(resource_id, due_at=due_at, check=check)

    async def erase(
        self, resource_id: uuid.UUID, *, check: Callable[[MediaResource], None] | None = None
    ) -> None:
        """Delete a resource and all its bytes at once, even a file that was recorded in place.

        Its thumbnails, and its sources that have a pending deletion, are deleted, too. This method
        also erases the bytes of an already deleted resource. Raises the errors of `delete`, or
        `BackendUnavailable` if bytes remain. A sweeper then deletes these bytes later.
        """
        rows, due_at, is_known = await self._database.rows(), now() + self._grace, False
        with contextlib.suppress(ResourceNotFound):
            await rows.resources.delete(resource_id, due_at=due_at, check=check, erases=True)
            is_known = True
        marks = await rows.deletions.hasten(resource_id)
        if not (is_known or marks):
            raise ResourceNotFound
        is_gone = await self._sweeper.execute([mark.id for mark in marks])
        keys = {key for mark in marks for key in (mark.storage_key, mark.source_key) if key}
        sha256 = next((mark.content_hash for mark in marks if mark.content_hash), None)
        for erase in self.erasing:
            await erase(keys, sha256)
        if not is_gone:
            raise BackendUnavailable("some bytes could not be deleted yet: try again later")
