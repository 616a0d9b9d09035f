"""Faults of `storage`."""

from typing import Final

from mutations.fault import Fault

DISK: Final = "tests/contract/test_disk.py"
BUCKET: Final = "tests/contract/test_r2.py"

FAULTS: Final = (
    Fault(
        "disk: a deletion looks at no condition",
        "storage/disk/publisher.py",
        "                condition.check(etag_of(status))\n",
        "",
        (DISK, "-k", "deletion"),
    ),
    Fault(
        "disk: a deletion of one save deletes any save",
        "storage/disk/publisher.py",
        "if save_id not in (None, save_id_of(status)):",
        "if save_id is not None and status is None:",
        (DISK, "-k", "deletion"),
    ),
    Fault(
        "disk: a page that is full says that it is the last one",
        "storage/disk/listing.py",
        "            return Page(entries, more=True)\n",
        "            return Page(entries, more=False)\n",
        (DISK, "-k", "pages"),
    ),
    Fault(
        "disk, path walk: the last name is looked up in the first folder",
        "storage/disk/openat2.py",
        "return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)",
        "return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)",
        (DISK, "-k", "Openat2"),
    ),
    Fault(
        "disk, named staging files: they stay behind",
        "storage/disk/staging.py",
        "                os.unlink(self._name, dir_fd=self._data_directory.staging_fd)",
        "                os.stat(self._name, dir_fd=self._data_directory.staging_fd)",
        (DISK, "-k", "Nameless"),
    ),
    Fault(
        "disk, without syncs: nothing can be saved",
        "storage/disk/data_directory.py",
        "        if not self.durable:\n            return\n",
        "        if not self.durable:\n            self._turn_read_only(OSError())\n",
        (DISK, "-k", "Syncs"),
    ),
    Fault(
        "disk, large folders: changes are noted and not looked at",
        "storage/disk/folder_cache.py",
        "                folder.names.update(_read_states(fd, changed))\n",
        "",
        (DISK, "-k", "saved_and_deleted"),
    ),
    Fault(
        "disk, large folders that are not remembered: a page has one name too few",
        "storage/disk/listing.py",
        "sorted([*least, *_select(smaller, start, folder.begins)])[:count]\n",
        "sorted([*least, *_select(smaller, start, folder.begins)])[: count - 1]\n",
        (DISK, "tests/unit/test_listing.py", "-k", "RemembersNo or Remembers_no or test_listing"),
    ),
    Fault(
        "bucket: a condition is not sent",
        "storage/s3/store.py",
        "headers=headers_of(properties) | _fields_of(guard),",
        "headers=headers_of(properties),",
        (BUCKET, "-k", "create or guarded"),
    ),
    Fault(
        "bucket: a copy keeps the id of its original's save",
        "storage/s3/store.py",
        '"x-amz-metadata-directive": "REPLACE"',
        '"x-amz-metadata-directive": "COPY"',
        (BUCKET, "-k", "copy"),
    ),
)
