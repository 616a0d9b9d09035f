"""The comparison after a start: what a crash has left out of the search index, on a disk.

    PYTHONPATH=tests .venv/bin/python -m benchmarks.catching_up --images 100000

PNG files of 300 bytes with A1111's parameters, 100 or one in a folder. They are written as other
tools do, so their hashes and types are not recorded, which costs more. Then 1,000 images are saved
and 1,000 deleted without the index, as in a process that dies, and the process starts again: with
the other folders unchanged, and with all folders changed.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from generation.carriers import png
from services.postgres import postgresql
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.library.database import MediaDatabase
from stillroom.features.search.catching_up import CatchingUp
from stillroom.features.search.healing import IndexHealing, never_pauses
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.values import SaveRules

_LOST: Final = 1000
_AN_HOUR_S: Final = 3600


def _write(folder: Path, numbers: range, in_folder: int) -> None:
    for number in numbers:
        parent = folder / f"{number // in_folder // 100}" / f"{number // in_folder}"
        if number % in_folder == 0:
            parent.mkdir(parents=True, exist_ok=True)
        data = png({"parameters": f"a red fox\nSteps: 20, Seed: {number}, Model: m"})
        (parent / f"{number}.png").write_bytes(data)


def _age(folder: Path) -> None:
    """Make all files and folders an hour old, but for one image, which was saved later."""
    then = time.time() - _AN_HOUR_S
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            os.utime(Path(parent, name), (then, then))
        os.utime(parent, (then, then))
    os.utime(folder / "0/0/0.png", (then + 60, then + 60))


def _lose(folder: Path, images: int, in_folder: int) -> None:
    """Save some, and delete as many, in folders of their own."""
    for number in range(_LOST):
        (folder / f"{number // in_folder // 100}" / f"{number // in_folder}/{number}.png").unlink()
    _write(folder, range(images, images + _LOST), in_folder)


def _touch(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        os.utime(parent)


async def _measured(config: RowsConfig, images: int, in_folder: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        storage = open_storage(
            DiskConfig(Path(name), min_free_bytes=0, durable=False),
            SaveRules(10**9),
            disk=FastDiskStorage,
        )
        database, folder = MediaDatabase(config), Path(name, "compute")
        _write(folder, range(images), in_folder)
        _age(folder)
        found = []
        first = IndexHealing(storage, database, compares_saves=True)
        began = time.monotonic()
        await first.rebuild(never_pauses, restart=True, progress=lambda _: None)
        found.append(f"rebuild {time.monotonic() - began:.1f} s")
        for what, is_all in (("the folders of the lost", False), ("all folders", True)):
            if not is_all:
                _lose(folder, images, in_folder)
            else:
                _touch(folder)
            began, cpu = time.monotonic(), time.process_time()
            healed = await CatchingUp(storage, database).catch_up(never_pauses)
            assert healed is not None  # noqa: S101  (no other process compares)
            found.append(
                f"{what} {time.monotonic() - began:.1f} s ({time.process_time() - cpu:.1f} s of a "
                f"core; {healed.images} compared, {healed.written} written, {healed.removed} gone)"
            )
        await database.close()
        await storage.close()
    return found


def main() -> None:
    """Print a line for each database and number of images in a folder."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--images", type=int, default=100_000)
    images = asked.parse_args().images
    with tempfile.TemporaryDirectory() as name, postgresql() as postgres:
        for in_folder in (100, 1):
            file = Path(name, f"{in_folder}", "library.db")
            for config in (SqliteConfig(file), PostgresConfig(postgres.make_database())):
                found = asyncio.run(_measured(config, images, in_folder))
                print(  # noqa: T201  (its output)
                    f"{type(config).__name__}, {images} images, {in_folder} in a folder:",
                    "; ".join(found),
                    flush=True,
                )


if __name__ == "__main__":
    main()
