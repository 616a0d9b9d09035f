"""Codes in the links for signing in to the gallery. Each code can be exchanged once for a token.

Each code is an empty file in a private folder that all server processes share. The name of the file
is the SHA-256 of the code. Using a code deletes its file, so it works once (docs/adr/0036).
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
    """Unused sign-in codes, stored in a folder that all server processes share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self) -> str:
        """Create a code, and delete expired codes. Raises OSError if the folder is not writable."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # the code was used meanwhile
                if not _is_valid(file):
                    file.unlink()
        code = secrets.token_urlsafe(_CODE_BYTES)
        self._file_of(code).touch(mode=0o600, exist_ok=False)
        return code

    def use(self, code: str) -> None:
        """Use up a code. Raises `SignInCodeSpent` if it was used, has expired, or is unknown."""
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
    return abs(age_s) < CODE_LIFE.total_seconds()  # the age is negative if the clock was set back
