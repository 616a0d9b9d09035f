"""Secret for signing tokens, which a server generates and stores if none is configured."""

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from stillroom.errors import ConfigurationError


def load_secret(file: Path) -> str:
    """Read the generated secret. Raise FileNotFoundError if no server has generated it yet."""
    if not file.exists():
        raise FileNotFoundError(
            f"cannot read the token secret, because {str(file)!r} does not exist: start the server "
            "once to create it, or give this command the same STILLROOM_DATA_DIR (--data-dir) or "
            "STILLROOM_JWT_SECRET as the server"
        )
    return load_or_make_secret(file)[0]


def load_or_make_secret(file: Path) -> tuple[str, bool]:
    """Read or generate the secret. Return it, and whether this call has generated it."""
    try:
        is_new = not file.exists() and _make(file)
        return _load(file), is_new
    except OSError as error:
        raise ConfigurationError(
            f"the token secret in {str(file)!r} cannot be used ({error}): "
            "set STILLROOM_DATA_DIR to a folder that this user may write to, "
            "or set STILLROOM_JWT_SECRET"
        ) from error


def _load(file: Path) -> str:
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(fd, encoding="ascii", errors="replace") as opened:
        if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
            raise ConfigurationError(
                f"other users can read the token secret: run `chmod 600 {str(file)!r}`, or "
                "delete it, so that a new one is generated (old tokens become invalid)"
            )
        return opened.read().strip()


def _make(file: Path) -> bool:
    folder = file.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    with tempfile.NamedTemporaryFile("w", encoding="ascii", prefix="secret.", dir=folder) as draft:
        draft.write(secrets.token_urlsafe(32) + "\n")
        draft.flush()
        os.fsync(draft.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster: use its secret
            os.link(draft.name, file)
            _sync_folder(folder)
            return True
    return False


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
