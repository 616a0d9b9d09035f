"""Codes of sign-in links, which any process of the server exchanges for a token once.

A code is a file in a private folder, named by the code's SHA-256. A code is used by deleting the
file, which only one process can do (docs/adr/0036-sign-in-links.md).
"""

import contextlib
import hashlib
import secrets
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from stillroom.errors import SignInCodeSpent

CODE_LIFE: Final = timedelta(minutes=10)

_CODE_BYTES: Final = 32


class SignInCodes:
    """Unused codes in a folder shared by all processes of a server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self) -> str:
        """Create a code, and delete expired ones.

        Raises:
            OSError: the folder is not writable.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # used meanwhile
                if not _is_valid(file):
                    file.unlink()
        code = secrets.token_urlsafe(_CODE_BYTES)
        self._file_of(code).touch(mode=0o600, exist_ok=False)
        return code

    def use(self, code: str) -> None:
        """Use a code, which makes it invalid.

        Raises:
            SignInCodeSpent: the code has been used, has expired, or never existed.
        """
        file = self._file_of(code)
        try:
            is_valid = _is_valid(file)
            file.unlink()
        except OSError:
            raise SignInCodeSpent from None
        if not is_valid:
            raise SignInCodeSpent

    def _file_of(self, code: str) -> Path:
        return self._folder / hashlib.sha256(code.encode("utf-8", "backslashreplace")).hexdigest()


def _is_valid(file: Path) -> bool:
    age_s = time.time() - file.stat().st_mtime
    return abs(age_s) < CODE_LIFE.total_seconds()  # negative if the clock was set back
