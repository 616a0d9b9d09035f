"""Listings against a plain model, over random trees."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import InvalidPath
from stillroom.paths import ImagePrefix, KeyPrefix, is_listed
from stillroom.speed.disk.folder_cache import FolderCache
from stillroom.store.disk import listing
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.listing import list_page
from stillroom.store.values import ListQuery

SEGMENT = st.text(alphabet="ab-/.0é😀", min_size=1, max_size=3).filter(
    lambda text: "/" not in text and text not in (".", "..")
)
KEYS = st.lists(st.lists(SEGMENT, min_size=1, max_size=3).map("/".join), max_size=25)
TEXT = st.text(alphabet="ab-/.0é😀", max_size=5)


def is_prefix(text: str) -> bool:
    try:
        ImagePrefix.parse(text)
    except InvalidPath:
        return False
    return True


PREFIX = TEXT.filter(is_prefix)


def fill(root: Path, paths: list[str]) -> list[str]:
    made = []
    for path in paths:
        file = root / "compute" / path
        if any(parent.is_file() for parent in file.parents) or file.is_dir():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        made.append(f"compute/{path}")
    return sorted(set(made))


def model(keys: list[str], query: ListQuery) -> list[str]:
    found: list[str] = []
    for key in keys:
        if not key.startswith(query.prefix.text) or key <= query.after:
            continue
        rest = key[len(query.prefix.text) :]
        entry = key
        if query.delimited and "/" in rest:
            entry = query.prefix.text + rest[: rest.index("/") + 1]
            if entry == query.after:
                continue
        if entry not in found:
            found.append(entry)
    return found


def test_empty_folders_and_foreign_names_cost_no_scan_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_directory = DataDirectory(tmp_path, durable=False)
    for number in range(3000):
        (tmp_path / f"compute/{number:05}").mkdir()
        (tmp_path / f"compute/a\n{number}").touch()
    (tmp_path / "compute/z.png").touch()
    scans: list[int] = []
    real_scandir = os.scandir

    def counting(fd: int) -> Any:
        scans.append(os.fstat(fd).st_ino)
        return real_scandir(fd)

    monkeypatch.setattr(os, "scandir", counting)

    page = list_page(data_directory, ListQuery(KeyPrefix("compute/"), limit=1))

    assert page.entries == ["compute/z.png"]
    assert scans.count((tmp_path / "compute").stat().st_ino) <= 3
    data_directory.close()


@pytest.mark.parametrize("max_bytes", [0, 1024**2], ids=["stateless", "remembered"])
@given(paths=KEYS, prefix=PREFIX, after=TEXT, limit=st.integers(1, 8), delimited=st.booleans())
def test_a_page_is_what_sorting_everything_would_give(
    max_bytes: int, paths: list[str], prefix: str, after: str, limit: int, *, delimited: bool
) -> None:
    folder_cache = FolderCache(max_bytes)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_SMALL_FOLDER", 0)
        patch.setattr(listing, "_SMALLEST_PICK", 1)
        patch.setattr(listing, "_FOLDERS_SEARCHED", 2)
        data_directory = DataDirectory(Path(folder), durable=False)
        keys = fill(Path(folder), paths)
        (Path(folder) / "compute/empty/below").mkdir(parents=True, exist_ok=True)
        query = ListQuery(
            KeyPrefix(f"compute/{prefix}"), f"compute/{after}", limit, delimited=delimited
        )

        expected = model(keys, query)
        for _ in range(2):
            page = list_page(data_directory, query, folder_cache)

            assert list(page.entries) == expected[:limit]
            assert page.more == (len(expected) > limit)
        data_directory.close()
    folder_cache.close()


def test_a_folded_page_looks_only_for_the_first_image_below_each_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_directory = DataDirectory(tmp_path, durable=False)
    fill(tmp_path, [f"{folder}/{number:04}" for folder in "abc" for number in range(1000)])
    looked_at: list[str] = []

    def counting(name: str) -> bool:
        looked_at.append(name)
        return is_listed(name)

    monkeypatch.setattr(listing, "is_listed", counting)

    page = list_page(data_directory, ListQuery(KeyPrefix("compute/"), delimited=True))

    assert page.entries == ["compute/a/", "compute/b/", "compute/c/"]
    assert len(looked_at) == 6
    data_directory.close()
