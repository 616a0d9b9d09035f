"""`FastDiskStorage`: disk storage with caches, and with reads that do not wait for the disk."""

from stillroom.paths import StorageKey
from stillroom.speed.disk.folder_cache import FolderCache
from stillroom.speed.disk.inotify import reports_all_changes
from stillroom.speed.disk.known_files import KnownFiles, RecentFacts
from stillroom.speed.disk.pinned_names import PinnedNames
from stillroom.store.capabilities import UNWATCHED, ChangeObserver
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.image import DiskImage
from stillroom.store.disk.openat2 import is_absent, open_by_kernel
from stillroom.store.disk.storage import READ_FLAGS, DiskImageStorage
from stillroom.store.values import ListQuery, OpenedImage, Page, SaveRules, StoredImage


class FastDiskStorage(DiskImageStorage):
    """`DiskImageStorage` with caches, which implements `ServesNow` and `PinsNames`.

    The cache for names of large folders uses at most `list_cache_bytes` (0: no cache).
    """

    def __init__(
        self,
        data_directory: DataDirectory,
        rules: SaveRules,
        *,
        min_free_bytes: int = 0,
        list_cache_bytes: int = 64 * 1024**2,  # names of one to three million images
        changes: ChangeObserver = UNWATCHED,
    ) -> None:
        super().__init__(data_directory, rules, min_free_bytes=min_free_bytes, changes=changes)
        self._folder_names = self._folder_cache = FolderCache(list_cache_bytes)
        self._describe_file = RecentFacts(data_directory.fd).describe_file
        self._known_files = KnownFiles(data_directory.fd, READ_FLAGS)
        self._reports_all_changes = reports_all_changes(data_directory.fd)
        self._opens_by_kernel = data_directory.open_contained is open_by_kernel
        self._pinned_names = PinnedNames(data_directory, self._threads)

    def is_current(self, image: StoredImage) -> bool:
        """Return whether `image` is still the stored version, or False if this is unknown."""
        return self._reports_all_changes and self._known_files.is_current(image)

    def read_now(self, image: StoredImage, start: int, into: memoryview) -> bool:
        """Fill a buffer from the page cache. Return False if that fails, or if the file changed."""
        return self._opens_by_kernel and self._known_files.read_now(image, start, into)

    def is_missing(self, key: StorageKey) -> bool:
        """Return True if the image certainly does not exist, False if it may exist."""
        return self._opens_by_kernel and is_absent(self._data_directory.fd, key.text)

    def known_name(self, image: StoredImage) -> str | None:
        """Return the hard link (pinned name) to this image version, or None if there is none."""
        return self._pinned_names.find(image.save_id)

    async def pinned_name(self, image: OpenedImage) -> str | None:
        """Return a hard link (pinned name) to an open image, or None if that is impossible."""
        return await self._pinned_names.name(image) if isinstance(image, DiskImage) else None

    async def list(self, query: ListQuery) -> Page:
        """List a page of keys, and start to sort the names that were added to the cache."""
        page = await super().list(query)
        if not self._folder_cache.is_sorted and not self._threads.is_closed:
            self._threads.start(self._folder_cache.sort)
        return page

    def _release(self) -> None:
        self._pinned_names.close()
        self._folder_cache.close()
        super()._release()
