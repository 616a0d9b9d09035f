"""Where a download goes: a file that fills up, also over several attempts."""

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from stillroom.client.sources import SPOOL_BYTES
from stillroom.paths import ImagePath


class Sink:
    """A binary file that one image is written to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._start = file.tell() if file.seekable() else 0
        self.written = 0
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """The next bytes."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.written += len(chunk)

    def restart(self) -> None:
        """Forget what came, as it is of another image.

        Raises:
            OSError: a pipe cannot take back what it has passed on.
        """
        if self.written:
            self._file.seek(self._start)
            self._file.truncate()
            self.written = 0
            self._digest = hashlib.sha256()

    @property
    def sha256(self) -> bytes:
        """Of what came so far."""
        return self._digest.digest()


def spool() -> IO[bytes]:
    """A file that is in memory while it is small, and on the disk without a name from then on."""
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))


def check_target(target: object) -> None:
    """Return if a download can go there: to a path, or into an open binary file.

    Raises:
        TypeError: neither.
    """
    if isinstance(target, str) or not (isinstance(target, Path) or hasattr(target, "write")):
        raise TypeError(
            "a file to download to is named by a pathlib.Path, such as Path('out.png'), or is an "
            f"open binary file; this is a {type(target).__name__}"
        )


def check_within(file: Path, folder: Path | None) -> None:
    """Return if a file is in `folder`, or is `folder` itself; always if that is None.

    Raises:
        PermissionError: the way to the file leads out of the folder, by `..` or by a link.
    """
    if folder is None or file == folder:
        return
    if not file.parent.resolve().is_relative_to(folder.resolve()) or file.name in ("", ".."):
        raise PermissionError(errno.EPERM, f"the way there leads out of {folder}", str(file))


@contextlib.contextmanager
def replacing(target: Path, path: ImagePath, within: Path | None = None) -> Iterator[IO[bytes]]:
    """A file that takes the place of `target` once it is complete; else nothing is left.

    A target that is a folder stands for the image's own name in it.

    After a SIGKILL a hidden `.stillroom-….part` may stay beside it.

    Raises:
        PermissionError: see `check_within`; nothing was made.
    """
    if target.is_dir():
        target /= path.text.rpartition("/")[2]
    check_within(target, within)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".stillroom-{secrets.token_hex(8)}.part")
    file = part.open("x+b")
    try:
        with file:
            yield file
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        raise
