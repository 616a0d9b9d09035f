"""Makes chosen file-system calls of the storage fail, here or in a server's processes.

The wrapped functions ask what becomes of a call only when the storage itself makes
it: everybody else's calls, and the storage's real ones, go through.
"""

import errno
import fcntl
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stillroom.store.disk import flushes

if TYPE_CHECKING:
    import pytest

Verdict = str | None
"""None: as usual. `skip`: say that it is done. `short`: do a part. An errno's name: fail."""

Decide = Callable[[str, tuple[Any, ...]], Verdict]

FOLLOWED: Final = "CRASH_FAULTS"
"""The environment variable that names the file which a server's processes follow."""

_STORAGE: Final = (
    "stillroom.store.disk",
    "stillroom.store.bucket",
    "stillroom.store.s3",
    "stillroom.speed.disk",
)
_CALLS: Final = (
    "close", "copy_file_range", "dup", "fstat", "fstatvfs", "fsync", "ftruncate", "getxattr",
    "link", "listdir", "mkdir", "open", "posix_fallocate", "pread", "preadv", "readlink", "replace",
    "rmdir", "scandir", "setxattr", "stat", "unlink", "utime", "writev",
)  # fmt: skip


def intercept(decide: Decide) -> Callable[[], None]:
    """Ask `decide` from now on; what is returned ends that."""
    real: list[tuple[Any, str, Any]] = [(os, name, getattr(os, name)) for name in _CALLS]
    real.append((fcntl, "flock", fcntl.flock))
    real.append((flushes, "sync_filesystem", flushes.sync_filesystem))
    for module, name, function in real:
        asking = _asking(decide, name, function)
        setattr(module, name, asking)
        for takers in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if function in takers:
                takers.add(asking)  # shutil looks there before it uses them

    def restore() -> None:
        for module, name, function in real:
            setattr(module, name, function)

    return restore


def _asking(decide: Decide, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def asking(*arguments: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        verdict = decide(name, arguments) if caller.startswith(_STORAGE) else None
        return carry_out(verdict, name, function, *arguments, **options)

    return asking


def carry_out(
    verdict: Verdict, name: str, function: Callable[..., Any], *arguments: Any, **options: Any
) -> Any:
    if verdict == "skip":
        return None
    if verdict == "short" and name == "writev":
        fd, pieces = arguments
        return function(fd, [pieces[0][: max(1, len(pieces[0]) // 2)]])
    if verdict == "short" and name == "copy_file_range":
        source, target, size, *offsets = arguments
        return function(source, target, max(1, size // 2), *offsets)
    if verdict is None or verdict == "short":
        return function(*arguments, **options)
    if name == "close":
        function(*arguments)  # Linux closes, whatever it then says: close(2)
    number = getattr(errno, verdict)
    raise OSError(number, os.strerror(number))


def follow_file() -> None:
    """Let this process do what the file named by the environment says, as soon as it exists.

    It holds `{"call": …, "of": "file" | "folder" | null, "does": a verdict}`.
    """
    file = Path(os.environ[FOLLOWED])

    def decide(name: str, arguments: tuple[Any, ...]) -> Verdict:
        try:
            fault = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        if name != fault["call"]:
            return None
        if fault["of"] is not None:
            is_folder = os.path.isdir(f"/proc/self/fd/{arguments[0]}")
            if is_folder != (fault["of"] == "folder"):
                return None
        verdict: str = fault["does"]
        return verdict

    intercept(decide)


class FaultFile:
    """What the processes of servers that are started from now on are told to do wrong."""

    def __init__(self, folder: Path, monkeypatch: "pytest.MonkeyPatch") -> None:
        self._file = folder / "faults.json"
        tests = Path(__file__).parents[1]
        monkeypatch.setenv(FOLLOWED, str(self._file))
        # Python imports a module `sitecustomize` at its start, if there is one.
        for folder_of_modules in (tests, tests / "crash/sabotage"):
            monkeypatch.setenv("PYTHONPATH", str(folder_of_modules), prepend=os.pathsep)

    def tell(self, call: str, does: str, *, of: str | None = None) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps({"call": call, "of": of, "does": does}))
        draft.replace(self._file)

    def end(self) -> None:
        self._file.unlink()
