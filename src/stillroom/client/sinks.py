"""Destination files of downloads."""

import contextlib
import errno
import hashlib
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from stillroom.client.errors import UnexpectedAnswer
from stillroom.paths import ImagePath

ARCHIVE_NAME: Final = ImagePath("images.zip")
"""Name of the ZIP file if the target of the download is a folder."""


class Sink:
    """Open binary file to which an image is downloaded, in one or several attempts."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._start = file.tell() if file.seekable() else 0
        self.written = 0
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Append bytes to the file."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.written += len(chunk)

    def restart(self) -> None:
        """Discard all bytes. Raise `OSError` if the file cannot be truncated."""
        if self.written:
            self._file.seek(self._start)
            self._file.truncate()
            self.written = 0
            self._digest = hashlib.sha256()

    def begin(self, status: int, headers: Mapping[str, str]) -> int | None:
        """Prepare for the body of a response. Return the expected size of the file, or None."""
        if status == 200:
            self.restart()
        length = headers.get("content-length", "")
        return int(length) + self.written if length.isdigit() else None  # a 206 has only the rest

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the bytes written so far."""
        return self._digest.digest()


def check_archive(file: IO[bytes]) -> None:
    """Raise `UnexpectedAnswer` if a ZIP is incomplete, as a proxy may hide an interruption."""
    if file.seekable() and file.readable() and not zipfile.is_zipfile(file):
        raise UnexpectedAnswer("the received archive is incomplete: try again")


def check_target(target: object) -> None:
    """Raise `TypeError` unless the target of a download is a `Path` or an open binary file."""
    if not isinstance(target, Path) and not hasattr(target, "write"):
        raise TypeError(
            f"cannot download to a {type(target).__name__}: pass a pathlib.Path, such as "
            "Path('out.png'), or an open binary file"
        )


def check_within(file: Path, folder: Path | None) -> None:
    """Raise `PermissionError` if `file`, with symbolic links resolved, is outside `folder`."""
    if folder is None or file == folder:
        return
    if not file.parent.resolve().is_relative_to(folder.resolve()) or file.name in ("", ".."):
        raise PermissionError(errno.EPERM, f"the path leads out of {folder}", str(file))


@contextlib.contextmanager
def replacing(target: Path, path: ImagePath, within: Path | None = None) -> Iterator[IO[bytes]]:
    """Context manager: yield a temporary file that replaces `target` unless an error occurs.

    If `target` is a folder, a file in it with the name of the image is replaced. After a SIGKILL,
    a hidden file `.stillroom-….part` may remain.
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
