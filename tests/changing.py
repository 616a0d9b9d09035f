"""Changes to a data directory as people and programs make them, here or in a process of their own.

As a program it reads changes from its input, a line each, and answers a line when one is made.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from services.process import LineProcess
from stillroom.errors import ImageNotFound, PathConflict
from stillroom.paths import StorageKey
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import SaveRules

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Changer:
    """Makes changes in one process; what cannot be done at the moment is left undone."""

    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    opened: tuple[str, DiskImageStorage] | None = None

    def change(self, root: str, kind: str, path: str, other: str) -> None:
        """Do `kind` to compute/`path`; `other` is where something is moved."""
        with contextlib.suppress(OSError, ImageNotFound, PathConflict):
            if kind == "save":
                self.runner.run(self._save(root, path))
            elif kind == "delete":
                self.runner.run(self._delete(root, path))
            else:
                _BY_HAND[kind](Path(root, "compute", path), Path(root, "compute", other))

    async def _save(self, root: str, path: str) -> None:
        await (await self._storage(root)).save(StorageKey(f"compute/{path}"), BytesSource(b"x"))

    async def _delete(self, root: str, path: str) -> None:
        await (await self._storage(root)).delete(StorageKey(f"compute/{path}"))

    async def _storage(self, root: str) -> DiskImageStorage:
        if self.opened is None or self.opened[0] != root:
            await self._close()
            home = DataDirectory(Path(root), durable=False)
            self.opened = root, DiskImageStorage(home, SaveRules(max_bytes=100))
        return self.opened[1]

    async def _close(self) -> None:
        if self.opened is not None:
            await self.opened[1].close()
            self.opened = None

    def close(self) -> None:
        self.runner.run(self._close())
        self.runner.close()


def _copy_in(path: Path, _other: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def _link_in(path: Path, other: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(other, path)


def _exchange(path: Path, other: Path) -> None:
    paths = _AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other)
    _libc.renameat2(*paths, _RENAME_EXCHANGE)


def _move_out_and_back(path: Path, _other: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent.parent) as outside:
        away = Path(outside, "away")
        path.rename(away)
        if away.is_dir():
            (away / "meanwhile").write_bytes(b"x")
        away.rename(path)


def _plant_a_link(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


_BY_HAND: Final[dict[str, Callable[[Path, Path], object]]] = {
    "copy in": _copy_in,
    "link in": _link_in,
    "remove": lambda path, _: path.unlink(),
    "make folder": lambda path, _: path.mkdir(parents=True),
    "remove tree": lambda path, _: shutil.rmtree(path),
    "move": lambda path, other: path.rename(other),
    "exchange": _exchange,
    "move out and back": _move_out_and_back,
    "plant a link": _plant_a_link,
    "touch": lambda path, _: os.utime(path, ns=(1, 1)),
}

KINDS: Final = ("save", "delete", *_BY_HAND)
"""Of changes."""


class OtherProcess:
    def __init__(self) -> None:
        self._process = LineProcess(sys.executable, "-X", "utf8", __file__)

    def change(self, *change: str) -> None:
        """As `Changer.change`; returns when it is made."""
        assert self._process.ask(json.dumps(change)) == "made"

    def close(self) -> None:
        self._process.close()


def _serve() -> None:
    with contextlib.closing(Changer()) as changer:
        for line in sys.stdin:
            change: Any = json.loads(line)
            changer.change(*change)
            print("made", flush=True)  # noqa: T201  (the answer)


if __name__ == "__main__":
    _serve()
