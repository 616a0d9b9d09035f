"""Publication of runs (folders with images).

A run is published by writing its manifest, a JSON file that lists the images. There are two steps:

1. List and count the images. Fail if a folder inside the run is a published run.
2. Read the metadata of the images, and compute missing hashes. Create the manifest atomically,
   unless it exists.

After a crash in either step, the run is open or published, never partly published. If several
processes publish a run, one writes the manifest, and the others compare it (docs/adr/0030).
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

from stillroom import errors
from stillroom.features.database.clock import now
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.recorded_bytes import hash_opened
from stillroom.features.library.resource import DELETED
from stillroom.features.runs import manifest
from stillroom.features.runs.database import run_rows
from stillroom.features.runs.manifest import ImageSet, ManifestHead, is_manifest, manifest_key
from stillroom.paths import ImagePath, KeyPrefix, StorageKey, folders_of, image_entry
from stillroom.store.pages import each_page
from stillroom.store.port import ImageStorage
from stillroom.store.sources import DescribedSource
from stillroom.store.values import ANY, Condition, ListQuery, OpenedImage, SaveRules, StoredImage

_NAMES: Final = 1000  # names per page, as in S3 listings
PAGE: Final = 250  # images per page; in a bucket, each costs a HEAD request
_IN_ONE_REQUEST: Final = 16 * 1024**2  # larger manifests are written to a bucket in parts
_UNREADABLE: Final = "the run's manifest cannot be read: delete the run, and publish it again"
_DELETED: Final = "the run was deleted while it was published"

log = logging.getLogger("stillroom.media")


class Runs:
    """Service that publishes the runs in one storage, and reads their manifests and images.

    All methods raise `BackendUnavailable` if the storage or the database fails.
    """

    def __init__(self, storage: ImageStorage, database: MediaDatabase) -> None:
        self._storage = storage
        self._database = database

    async def publish(self, folder: ImagePath, expected: int | None) -> OpenedImage:
        """Publish a run, and return its manifest, which the caller must close.

        All images in the folder and its subfolders belong to the run. Their number must be
        `expected`, unless that is None. A call can be repeated after a crash, and several processes
        can publish the same run at once.

        Raises:
            RunNotFound: the folder contains no images, and `expected` is None.
            RunConflict: the number of images is not `expected`; or the run was published with
                other images, or is being deleted; or the folder contains, or is inside, another
                published run.
            TooLarge, StorageFull, ConditionUnsupported: see `ImageStorage.save`.
        """
        await self._require_unenclosed(folder)
        await self._require_not_deleting(folder, [])
        count, max_bytes = await self.require_none_inside(folder)
        if expected is not None and count != expected:
            message = f"the run has {_images(count)}, and {expected} were expected"
            raise errors.RunConflict(message, count=count)
        published = await self.open_manifest(folder)
        if published is not None:
            published = await self._compare(folder, published)
        elif not count and expected is None:
            raise errors.RunNotFound
        else:
            published = await self._write(folder, count, max_bytes)
        try:
            rows = await run_rows(self._database)
            await rows.note_publication(folder, published.image.save_id, count)
        except BaseException:
            published.close()
            raise
        return published

    async def _write(self, folder: ImagePath, count: int, max_bytes: int) -> OpenedImage:
        head, last = ManifestHead(folder.text, now(), count), list[StoredImage]()
        source = DescribedSource(
            manifest.encode(head, self._describe_exactly(folder, count, last)),
            max_bytes=max_bytes if max_bytes <= _IN_ONE_REQUEST else None,
            content_type=manifest.CONTENT_TYPE,
            rules=SaveRules(manifest.MAX_BYTES),
        )
        key = manifest_key(folder)
        try:
            saved = await self._storage.save(key, source, Condition(if_none_match=ANY))
        except errors.PreconditionFailed:
            await self._require_unnested(folder)
            published = await self.open_manifest(folder)
            if published is None:
                raise errors.RunConflict(_DELETED) from None
            return await self._compare(folder, published)
        try:
            # A concurrent deletion also deletes this manifest, unless it has just finished.
            await self._require_not_deleting(folder, last)
            # If nested runs are published at once, the second detects the first here or above.
            await self._require_unnested(folder)
        except BaseException:
            with contextlib.suppress(errors.StillroomError):
                await self._storage.delete(key, save_id=saved.save_id)
            raise
        try:
            opened = await self._storage.open(key)
        except errors.ImageNotFound:
            raise errors.RunConflict(_DELETED) from None
        log.info("published the run %r with %s", folder.text, _images(count))
        return opened

    async def _require_not_deleting(self, folder: ImagePath, images: Sequence[StoredImage]) -> None:
        rows = await self._database.rows()
        folders = folder.text, *folders_of(folder.text)
        prefixes = [KeyPrefix.of_folder(ImagePath(text)).text for text in folders]
        if await (await run_rows(self._database)).is_deleting(prefixes):
            raise errors.RunConflict("the run is being deleted")
        marks = await rows.deletions.of_saves(images) if images else ()
        if count := sum(mark.reason == DELETED for mark in marks):
            raise errors.RunConflict(
                f"{_images(count)} of the run will be deleted soon: "
                "save again what must stay, then publish"
            )

    async def _require_unnested(self, folder: ImagePath) -> None:
        await self._require_unenclosed(folder)
        await self.require_none_inside(folder)

    async def _require_unenclosed(self, folder: ImagePath) -> None:
        for parent in reversed(folders_of(folder.text)):
            if await self.is_published(ImagePath(parent)):
                raise errors.RunConflict(f"the folder is in the run {parent!r}, which is published")

    async def require_none_inside(self, folder: ImagePath) -> tuple[int, int]:
        """Raise `RunConflict` if a folder contains a published run in a subfolder.

        Return the number of images in the folder, and an upper bound for their manifest's size.
        """
        own = manifest_key(folder).text
        count, size = 0, manifest.FACTS_BYTES
        query = ListQuery(KeyPrefix.of_folder(folder), limit=_NAMES, reserved=True)
        async for page in each_page(self._storage.list, query):
            for name in page.entries:
                if name == own:
                    continue
                if is_manifest(name):
                    inner = image_entry(name).rpartition("/")[0]
                    raise errors.RunConflict(f"this folder contains the published run {inner!r}")
                count += 1
                size += 2 * len(name.encode()) + manifest.FACTS_BYTES
        return count, size

    async def _describe_exactly(
        self, folder: ImagePath, count: int, last: list[StoredImage]
    ) -> AsyncIterator[list[dict[str, object]]]:
        """Yield pages of manifest entries, and store the images of the last page in `last`.

        Raises `RunConflict` at the end if the total number of entries is not `count`.
        """
        described = 0
        async for images in self.images(folder):
            await self._require_not_deleting(folder, images)
            last[:] = images or last
            page = await self._describe_page(images)
            described += len(page)
            yield page
        if described != count:
            message = "images of the run changed while it was published: publish it again"
            raise errors.RunConflict(message, count=described)

    async def describe_images(self, folder: ImagePath) -> AsyncIterator[list[dict[str, object]]]:
        """Yield pages of manifest entries for the images that are currently in a run's folder."""
        async for images in self.images(folder):
            yield await self._describe_page(images)

    async def images(self, folder: ImagePath) -> AsyncIterator[Sequence[StoredImage]]:
        """Yield pages of the images that are currently in a run's folder."""
        query = ListQuery(KeyPrefix.of_folder(folder), limit=PAGE)
        async for page in each_page(self._storage.entries, query):
            yield page.images

    async def _describe_page(self, images: Sequence[StoredImage]) -> list[dict[str, object]]:
        entries = []
        for image in images:
            with contextlib.suppress(errors.ImageNotFound):
                entries.append(await self._describe(image))
        return entries

    async def _describe(self, image: StoredImage) -> dict[str, object]:
        if image.sha256 is not None:
            return manifest.describe_image(image, image.sha256)
        with contextlib.closing(await self._storage.open(image.key)) as opened:
            return manifest.describe_image(opened.image, await hash_opened(opened))

    async def _compare(self, folder: ImagePath, published: OpenedImage) -> OpenedImage:
        """Return an existing manifest, or raise `RunConflict` if the images differ from it."""
        try:
            in_manifest, in_folder = await _read_image_set(published), ImageSet()
            async for page in self.describe_images(folder):
                for image in page:
                    in_folder.add(image)
            if in_folder != in_manifest:
                raise errors.RunConflict(  # noqa: TRY301  (closes the manifest)
                    f"the images in the folder ({in_folder.count}) differ from those of the "
                    f"published run ({in_manifest.count}): save changed images in another "
                    "folder, and publish that one",
                    count=in_folder.count,
                )
        except BaseException:
            published.close()
            raise
        return published

    async def is_published(self, folder: ImagePath) -> bool:
        """Return whether the folder has a manifest."""
        return await self.published_ns(folder) is not None

    async def published_ns(self, folder: ImagePath) -> int | None:
        """Return when the folder's manifest was saved (nanoseconds), or None if it has none."""
        try:
            return (await self._storage.stat(manifest_key(folder))).modified_ns
        except (errors.ImageNotFound, errors.InvalidPath):  # or the name is too long for a manifest
            return None

    async def published_keys(self, folder: ImagePath) -> AsyncGenerator[StorageKey, None]:
        """Yield the keys of the images in a run's manifest.

        Raises:
            RunNotFound: the folder contains no images.
            RunConflict: the run is not published, or its manifest is invalid.
        """
        opened = await self.open_manifest(folder)
        if opened is None:
            await self.require_images(folder)
            raise errors.RunConflict("the run is not published")
        with contextlib.closing(opened):
            try:
                async for image in manifest.read_images(opened):
                    path = ImagePath.parse(image["path"])
                    if not path.text.startswith(f"{folder.text}/"):
                        raise errors.RunConflict(_UNREADABLE)  # the folder was renamed
                    yield StorageKey.of_image(path)
            except (ValueError, KeyError, TypeError, AttributeError, errors.InvalidPath):
                raise errors.RunConflict(_UNREADABLE) from None

    async def open_manifest(self, folder: ImagePath) -> OpenedImage | None:
        """Open the manifest of a run in this storage. Return None if the run is not published."""
        return await open_manifest(self._storage, folder)

    async def require_images(self, folder: ImagePath) -> None:
        """Raise `RunNotFound` if the folder contains no image."""
        page = await self._storage.list(ListQuery(KeyPrefix.of_folder(folder), limit=1))
        if not page.entries:
            raise errors.RunNotFound


async def open_manifest(storage: ImageStorage, folder: ImagePath) -> OpenedImage | None:
    """Open a run's manifest, which the caller must close. Return None if it does not exist.

    Raises `InvalidPath` if the name of the manifest would be too long.
    """
    try:
        return await storage.open(manifest_key(folder))
    except errors.ImageNotFound:
        return None


async def _read_image_set(published: OpenedImage) -> ImageSet:
    images = ImageSet()
    try:
        async for image in manifest.read_images(published):
            images.add(image)
    except ValueError:
        raise errors.RunConflict(_UNREADABLE) from None
    return images


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
