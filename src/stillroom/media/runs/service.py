"""Publishing runs, and listing them.

A run is a folder. It is published by the one object that is written last, its manifest:

1. the images are listed, counted, and none may be in a published run below     nothing
2. each is looked at, and hashed if need be, while the manifest is written      nothing, or the
   create-only: it is there whole, or not at all                                manifest

So a process that dies leaves the run open, or published. Of several that publish one run, one
writes the manifest, and the others compare with that (docs/adr/0030).
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from stillroom.errors import (
    ImageNotFound,
    InvalidPath,
    PreconditionFailed,
    RunConflict,
    RunNotFound,
    StillroomError,
)
from stillroom.media.database import MediaDatabase
from stillroom.media.recorded_bytes import hash_opened
from stillroom.media.resource import now
from stillroom.media.runs import manifest
from stillroom.media.runs.manifest import ImageSet, ManifestHead
from stillroom.paths import ImagePath, KeyPrefix, StorageKey, image_entry, is_manifest
from stillroom.storage.port import ImageStorage
from stillroom.storage.sources import Document
from stillroom.storage.values import ANY, Condition, ListQuery, OpenedImage, SaveRules, StoredImage

_NAMES: Final = 1000
"""A page of names; as many as S3 gives."""

PAGE: Final = 250
"""A page of images with their facts; in a bucket each is a HEAD."""

_IN_ONE_REQUEST: Final = 16 * 1024**2
"""A manifest up to this size has its length reserved, and goes into a bucket in one request."""

_RULES: Final = SaveRules(manifest.MAX_BYTES)

log = logging.getLogger("stillroom.media")


class Runs:
    """The runs of one storage."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase) -> None:
        """Publish runs in `storage`, unless they are being deleted by `database`."""
        self._storage = storage
        self._database = database

    # Publishing --------------------------------------------------------------------------

    async def publish(self, folder: ImagePath, expected: int | None) -> OpenedImage:
        """Publish a run, once; close the manifest, which is what is returned.

        Safe to repeat, also after a crash at any point, and in several processes at once.

        Args:
            folder: All images in it, on whatever level, are the run's.
            expected: How many there must be.

        Raises:
            RunNotFound: there is none, and none were expected.
            RunConflict: there are more or fewer than `expected`; or it was published before as
                another set, or is deleted; or another published run is in it, or around it.
            TooLarge: there are too many images for one manifest.
            StorageFull, ConditionUnsupported, BackendUnavailable: as their names say.
        """
        await self._require_alone(folder)
        await self._require_kept(folder, [])
        count, most_bytes = await self._counted(folder)
        if expected is not None and count != expected:
            said = f"the run has {_images(count)}, and {expected} were expected"
            raise RunConflict(said, count=count)
        published = await self.open_manifest(folder)
        if published is not None:
            return await self._compared(folder, published)
        if not count and expected is None:
            raise RunNotFound
        return await self._write(folder, count, most_bytes)

    async def _write(self, folder: ImagePath, count: int, most_bytes: int) -> OpenedImage:
        """Write the manifest, unless another request is first."""
        head, last = ManifestHead(folder.text, now(), count), list[StoredImage]()
        source = Document(
            manifest.CONTENT_TYPE,
            manifest.written(head, self._exactly(folder, count, last)),
            max_bytes=most_bytes if most_bytes <= _IN_ONE_REQUEST else None,
            rules=_RULES,
        )
        key = StorageKey.of_manifest(folder)
        try:
            saved = await self._storage.save(key, source, Condition(if_none_match=ANY))
        except PreconditionFailed:
            published = await self.open_manifest(folder)
            if published is None:
                raise _deleted() from None
            compared = await self._compared(folder, published)
            try:
                await self._require_unnested(folder)
            except BaseException:
                compared.close()
                raise
            return compared
        try:
            # A deletion that has begun since removes the manifest itself, but for one that is over.
            await self._require_kept(folder, last)
            # Of two that are published at once, the one that is written last finds the other.
            await self._require_unnested(folder)
        except BaseException:
            with contextlib.suppress(StillroomError):
                await self._storage.delete(key, save_id=saved.save_id)
            raise
        try:
            opened = await self._storage.open(key)
        except ImageNotFound:
            raise _deleted() from None
        log.info("published the run %r with %s", folder.text, _images(count))
        return opened

    async def _require_kept(self, folder: ImagePath, images: Sequence[StoredImage]) -> None:
        """Return if neither the run nor any of the images is being deleted."""
        rows = await self._database.rows()
        around = [*_above(folder), folder]
        if await rows.run_deletions.is_deleting([KeyPrefix.of_folder(one).text for one in around]):
            raise RunConflict("the run is being deleted")
        if images and (count := await rows.deletions.deleted(images)):
            raise RunConflict(
                f"{_images(count)} of the run are about to be deleted: save them again first"
            )

    async def _require_unnested(self, folder: ImagePath) -> None:
        """Return if no published run is around a folder or in it."""
        await self._require_alone(folder)
        await self.require_none_inside(folder)

    async def _require_alone(self, folder: ImagePath) -> None:
        """Return if no folder above is a published run, whose images these are."""
        for above in _above(folder):
            if await self.is_published(above):
                raise RunConflict(f"the folder is in the run {above.text!r}, which is published")

    async def require_none_inside(self, folder: ImagePath) -> None:
        """Return if no published run is in a folder.

        Raises:
            RunConflict: one is.
        """
        await self._counted(folder)

    async def _counted(self, folder: ImagePath) -> tuple[int, int]:
        """How many images there are, and how many bytes at most their manifest has."""
        own = StorageKey.of_manifest(folder).text
        count, size = 0, manifest.FACTS_BYTES
        async for names in self._names(folder):
            for name in names:
                if name == own:
                    continue
                if is_manifest(name):
                    raise _nested(name)
                count += 1
                size += 2 * len(name.encode()) + manifest.FACTS_BYTES
        return count, size

    async def _names(self, folder: ImagePath) -> AsyncIterator[Sequence[str]]:
        """The keys of a run's images, and of manifests in it, page by page."""
        after = ""
        while True:
            page = await self._storage.list(
                ListQuery(KeyPrefix.of_folder(folder), after, _NAMES, manifests=True)
            )
            yield page.entries
            if not page.more:
                return
            after = page.entries[-1]

    async def _exactly(
        self, folder: ImagePath, count: int, last: list[StoredImage]
    ) -> AsyncIterator[list[dict[str, object]]]:
        """The images, of which there must be as many as the manifest's head says.

        `last` has those of the page that was looked at last.
        """
        found = 0
        async for images in self.images(folder):
            await self._require_kept(folder, images)
            last[:] = images or last
            page = await self._lines(images)
            found += len(page)
            yield page
        if found != count:
            raise RunConflict("the run was changed while it was published", count=found)

    async def described(self, folder: ImagePath) -> AsyncIterator[list[dict[str, object]]]:
        """The images of a run as they are now, with their hashes, page by page.

        Raises:
            BackendUnavailable: as its name says.
        """
        async for images in self.images(folder):
            yield await self._lines(images)

    async def images(self, folder: ImagePath) -> AsyncIterator[Sequence[StoredImage]]:
        """The images of a run as they are now, page by page."""
        after: str | None = ""
        while after is not None:
            page = await self._storage.entries(ListQuery(KeyPrefix.of_folder(folder), after, PAGE))
            yield [entry for entry in page.entries if isinstance(entry, StoredImage)]
            after = page.next_after

    async def _lines(self, images: Sequence[StoredImage]) -> list[dict[str, object]]:
        lines = [await self._line(image) for image in images]
        return [line for line in lines if line is not None]

    async def _line(self, image: StoredImage) -> dict[str, object] | None:
        """What a manifest says of an image, which is read if its hash is not known."""
        if image.sha256 is not None:
            return manifest.described(image, image.sha256)
        try:
            opened = await self._storage.open(image.key)
        except ImageNotFound:
            return None
        try:
            return manifest.described(opened.image, await hash_opened(opened))
        finally:
            opened.close()

    async def _compared(self, folder: ImagePath, published: OpenedImage) -> OpenedImage:
        """The manifest that there is, if the images are still those that it has.

        Raises:
            RunConflict: they are not.
        """
        try:
            there, here = await _images_of(published), ImageSet()
            async for page in self.described(folder):
                for image in page:
                    here.add(image)
            _require_same(there, here)
        except BaseException:
            published.close()
            raise
        return published

    # Reading -----------------------------------------------------------------------------

    async def is_published(self, folder: ImagePath) -> bool:
        """Whether there is a manifest."""
        try:
            await self._storage.stat(StorageKey.of_manifest(folder))
        except (ImageNotFound, InvalidPath):  # no manifest can have so long a name
            return False
        return True

    async def open_manifest(self, folder: ImagePath) -> OpenedImage | None:
        """The manifest of a published run, to be closed; None: it is not published."""
        return await open_manifest(self._storage, folder)

    async def require_images(self, folder: ImagePath) -> None:
        """Return if there is an image in the folder.

        Raises:
            RunNotFound: there is none.
        """
        page = await self._storage.list(ListQuery(KeyPrefix.of_folder(folder), limit=1))
        if not page.entries:
            raise RunNotFound


async def open_manifest(storage: ImageStorage, folder: ImagePath) -> OpenedImage | None:
    """The manifest of a published run, to be closed; None: it is not published.

    Raises:
        InvalidPath: no manifest can have so long a name.
        BackendUnavailable: as its name says.
    """
    try:
        return await storage.open(StorageKey.of_manifest(folder))
    except ImageNotFound:
        return None


async def _images_of(published: OpenedImage) -> ImageSet:
    images = ImageSet()
    try:
        async for image in manifest.read_images(published):
            images.add(image)
    except ValueError:
        raise RunConflict(
            "the run's manifest cannot be read: delete the run, and publish it again"
        ) from None
    return images


def _require_same(there: ImageSet, here: ImageSet) -> None:
    if not here.is_same(there):
        raise RunConflict(
            f"the run was published with {_images(there.count)}, not with the {here.count} "
            "that are there now",
            count=here.count,
        )


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _above(folder: ImagePath) -> list[ImagePath]:
    """The folders that a folder is in."""
    parts = folder.text.split("/")
    return [ImagePath("/".join(parts[:depth])) for depth in range(1, len(parts))]


def _deleted() -> RunConflict:
    return RunConflict("the run was deleted while it was published")


def _nested(key_text: str) -> RunConflict:
    inner = image_entry(key_text).rpartition("/")[0]
    return RunConflict(f"the run {inner!r} is in this folder, and is published")
