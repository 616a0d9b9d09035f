"""Thirty faults, planted one by one into a copy of the tree: does the suite find each?

`make mutations` runs it, after a change of how tests are chosen, marked or shared. Each fault is
small, would be noticed by a client or after a crash, and stands in one place. The tests beside it
are where it should be found: they pass without it, and at least one fails with it.

A text that is not in its file (or is there twice) is an error and no result: then the code has
changed, and the fault must be put into the new code.

    python -m mutations                 all of them
    python -m mutations walk lock       those with one of these words in their names
    python -m mutations --tree OTHER    with the tests of another checkout, to compare
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
LONGEST_S: Final = 600
COPIED: Final = ("src", "tests", "deploy", "docs", "benchmarks", "pyproject.toml")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: What is wrong.
        file: Below src/stillroom.
        old: What is there; exactly once.
        new: What is planted.
        tests: What is given to pytest: files, and `-k` with its expression.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


DISK: Final = "tests/contract/test_disk.py"
BUCKET: Final = "tests/contract/test_r2.py"
LIBRARY: Final = "tests/media/test_library.py"
SWEEPER: Final = "tests/media/test_sweeper.py"
LOCKS: Final = "tests/media/test_lock_order.py"

STORAGE: Final = (
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
        "                folder.names.update(_look_at(fd, changed))\n",
        "",
        (DISK, "-k", "saved_and_deleted"),
    ),
    Fault(
        "disk, large folders that are not remembered: a page has one name too few",
        "storage/disk/listing.py",
        "sorted([*least, *_wanted(found, start, folder.begins)])[:count]\n",
        "sorted([*least, *_wanted(found, start, folder.begins)])[: count - 1]\n",
        (DISK, "tests/unit/test_listing.py", "-k", "RemembersNo or Remembers_no or test_listing"),
    ),
    Fault(
        "bucket: a condition is not sent",
        "storage/s3/store.py",
        "headers |= _fields_of(guard)",
        "_fields_of(guard)",
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

MEDIA: Final = (
    Fault(
        "queue: a claimed mark is claimed again at once",
        "media/rows/deletions.py",
        "is_free = sa.or_(lease.is_(None), lease < now())",
        "is_free = sa.or_(lease.is_(None), lease != now())",
        (SWEEPER, "-k", "claimed or sweepers"),
    ),
    Fault(
        "queue: two sweepers take the same rows of PostgreSQL",
        "media/rows/deletions.py",
        "            .order_by(deletions.c.due_at)\n"
        "            .limit(limit)\n"
        "            .with_for_update(skip_locked=True)\n",
        "            .order_by(deletions.c.due_at)\n            .limit(limit)\n",
        (LOCKS, "-k", "two_sweepers"),
    ),
    Fault(
        "library: a deleted resource is there until it is swept",
        "media/rows/resources.py",
        "sa.update(resources).where(this).values(deleted_at=now())",
        "sa.select(resources).where(this)",
        (LIBRARY, "-k", "deleted_resource"),
    ),
    Fault(
        "library: a protected resource is deleted",
        "media/rows/resources.py",
        "                if current.protected:\n",
        "                if current.protected and current.deleted_at:\n",
        (LIBRARY, "-k", "protected"),
    ),
    Fault(
        "library: a page begins with the last resource of the one before",
        "media/rows/resources.py",
        "asked = asked.where(identity < query.after)",
        "asked = asked.where(identity <= query.after)",
        (LIBRARY, "-k", "pages"),
    ),
    Fault(
        "library: what is filled replaces what was there",
        "media/rows/resources.py",
        "name: sa.func.coalesce(resources.c[name], sa.literal(value, resources.c[name].type))",
        "name: sa.literal(value, resources.c[name].type)",
        ("tests/media/test_enrichment.py", "-k", "unset"),
    ),
    Fault(
        "library: a source is due without its grace period",
        "media/service.py",
        "image, due_at = source.image, now() + self._grace",
        "image, due_at = source.image, now()",
        (LIBRARY, "-k", "compute_result"),
    ),
    Fault(
        "library: a copy of other bytes than were looked at is kept",
        "media/service.py",
        "self._storage.copy(image.key, media_key, save_id=image.save_id)",
        "self._storage.copy(image.key, media_key, save_id=None)",
        (LIBRARY, "-k", "saved_over"),
    ),
    Fault(
        "sweeper: whatever lies under a marked key is deleted",
        "media/sweeper.py",
        "mark.storage_key, save_id=None if any_save else mark.save_id",
        "mark.storage_key, save_id=None",
        (SWEEPER, "-k", "saved_again"),
    ),
    Fault(
        "orphans: bytes of an ingest under way are orphans",
        "maintenance/orphans.py",
        "if now() - modified < self._older_than:",
        "if now() == modified:",
        ("tests/media/test_orphans.py", "-k", "young"),
    ),
    Fault(
        "expiry: one whose lease is over goes on marking",
        "media/rows/scans.py",
        "        .where(scans.c.name == name, scans.c.claimed_by == claim)\n"
        "        .values(after=after, lease_until=now() + lease)\n",
        "        .where(scans.c.name == name)\n"
        "        .values(after=after, lease_until=now() + lease)\n",
        ("tests/media/test_expiry.py", "-k", "late"),
    ),
)

MARK: Final = (
    Fault(
        "derived: a picture of a marked image loses the mark",
        "derived/images.py",
        "                        picture = await self._in_thread(with_ai_mark, picture)\n",
        "                        picture = await self._in_thread(bytes, picture)\n",
        ("tests/derived/test_picture_marks.py", "-k", "marked_image_says"),
    ),
    Fault(
        "SDK: what is to be marked is saved as it is",
        "client/sources.py",
        "file = io.BytesIO(with_ai_mark(file.read()))",
        "file = io.BytesIO(file.read())",
        ("tests/client/test_ai_mark.py", "-k", "saved_with_the_mark"),
    ),
)

HTTP: Final = (
    Fault(
        "If-Match: a weak tag matches",
        "http/fields.py",
        "        if weak or not found[1]:\n",
        "        if found:\n",
        ("tests/unit/test_fields.py", "tests/unit/test_serving.py"),
    ),
    Fault(
        "ranges: one that ends behind the image is too long by a byte",
        "http/serving.py",
        "return start, max(0, min(end, image.size - 1) - start + 1)",
        "return start, max(0, min(end, image.size) - start + 1)",
        ("tests/unit/test_serving.py", "tests/acceptance/test_serving.py"),
    ),
    Fault(
        "stored pages are shown and not downloaded",
        "http/serving.py",
        "    if image.content_type not in INLINE:\n",
        "    if not image.content_type:\n",
        ("tests/acceptance/test_serving.py",),
    ),
    Fault(
        "forms: the second of two files wins",
        "http/multipart.py",
        '        if self._seen_file:\n            raise InvalidUpload("the form has two',
        "        if not self._seen_file and self._skipped < 0:\n"
        '            raise InvalidUpload("the form has two',
        ("tests/acceptance/test_answers.py", "-k", "422"),
    ),
    Fault(
        "listings: the link to the next page forgets the prefix",
        "http/query.py",
        "            query = f\"prefix={quote(self.prefix.text, safe='')}&{query}\"\n",
        '            query = f"{query}"\n',
        ("tests/unit/test_query.py", "tests/acceptance/test_operations.py", "-k", "link"),
    ),
    Fault(
        "problems: a conflict is a precondition that failed",
        "http/problems.py",
        "    errors.PathConflict: 409,\n",
        "    errors.PathConflict: 412,\n",
        ("tests/acceptance/test_answers.py", "-k", "409"),
    ),
    Fault(
        "fast path: an answer is kept when its image has changed",
        "server/fast_path/reads.py",
        "(_KEPT, kept, image.size) if self._storage.is_current(image) else None\n",
        "_KEPT, kept, image.size\n",
        (
            "tests/acceptance/test_operations.py",
            "tests/acceptance/test_kept_answers.py",
            "-k",
            "saved_listed or kept",
        ),
    ),
    Fault(
        "fast path: an upload ignores its conditions",
        "server/fast_path/uploads.py",
        "operations.store(self._grant, self._path, self._fields, self._body)",
        "operations.store(self._grant, self._path,"
        " {n: v for n, v in self._fields.items() if n[:3] != 'if-'}, self._body)",
        ("tests/acceptance/test_operations.py",),
    ),
    Fault(
        "ASGI path: a GET ignores its conditions and ranges",
        "api/sendfile.py",
        'answer = answer_image("GET", fields, image.image, cache_control=cache_control)',
        'answer = answer_image("GET", {}, image.image, cache_control=cache_control)',
        ("tests/acceptance/test_serving.py",),
    ),
    Fault(
        "workers: each answers for itself alone when it is asked for numbers",
        "telemetry/metrics.py",
        'if "PROMETHEUS_MULTIPROC_DIR" in os.environ:\n        flush()\n',
        'if "PROMETHEUS_MULTIPROC" in os.environ:\n        flush()\n',
        ("tests/acceptance/test_operations.py", "-k", "counted"),
    ),
)


def planted(fault: Fault, tree: Path, folder: Path) -> Path:
    """A copy of the tree with the fault in it."""
    copy = folder / "tree"
    copy.mkdir()
    for name in COPIED:
        source = (ROOT if name == "src" else tree) / name
        ignored = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, copy / name)
    file = copy / "src/stillroom" / fault.file
    if not file.exists():
        raise LookupError(f"{fault.name}: there is no {fault.file}; where is that code now?")
    text = file.read_text()
    if (count := text.count(fault.old)) != 1:
        raise LookupError(f"{fault.name}: {count} times in {fault.file}: {fault.old!r}")
    file.write_text(text.replace(fault.old, fault.new))
    return copy


def found_by(fault: Fault, tree: Path) -> tuple[str, float]:
    """What pytest says of the first failure, empty if there is none, and the seconds it took."""
    with tempfile.TemporaryDirectory(prefix="stillroom-mutation-") as folder:
        copy = planted(fault, tree, Path(folder))
        began = time.monotonic()
        ran = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=no",
                "-p", "no:cacheprovider", *fault.tests,
            ],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": f"{copy / 'src'}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )  # fmt: skip
    said = ran.stdout + ran.stderr
    lines = [line for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if ran.returncode not in (0, 1) or (ran.returncode == 1 and not lines):
        raise RuntimeError(f"{fault.name}: pytest ended with {ran.returncode}\n{said[-3000:]}")
    lines.sort(reverse=True)  # a test that fails before its fixture that does
    return (lines[0] if ran.returncode else ""), time.monotonic() - began


def chosen(words: list[str]) -> Iterator[Fault]:
    for fault in (*STORAGE, *MEDIA, *MARK, *HTTP):
        if not words or any(word in fault.name for word in words):
            yield fault


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant faults, and see whether tests find them.")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--tree", type=Path, default=ROOT)
    parser.add_argument("--at-once", type=int, default=2)
    asked = parser.parse_args()
    missed = 0

    def run(fault: Fault) -> tuple[Fault, str, float | Exception]:
        try:
            return fault, *found_by(fault, asked.tree)
        except (LookupError, RuntimeError, subprocess.TimeoutExpired) as error:
            return fault, "", error

    with ThreadPoolExecutor(asked.at_once) as pool:
        for fault, test, took in pool.map(run, chosen(asked.words)):
            missed += not test
            if isinstance(took, Exception):
                print(f"ERROR   {took}", flush=True)
            else:
                print(f"{'found ' if test else 'MISSED'}  {took:5.0f} s  {fault.name}", flush=True)
                print(f"                  {test}" if test else "", flush=True)
    print(f"{missed} not found")
    return missed != 0


if __name__ == "__main__":
    sys.exit(main())
