"""Files that contain the secrets of webhooks, one per line."""

import os
import stat
from pathlib import Path
from typing import Final

from stillroom.errors import ConfigurationError
from stillroom.features.events.signing import SECRET_PREFIX, parse_secret
from stillroom.store.toml_tables import fault

_MAX_SECRETS: Final = 10
_MAX_BYTES: Final = 4096


def read_secrets(file: Path, origin: str) -> tuple[bytes, ...]:
    """Read the secrets of an endpoint. `origin` says where the file is named, for error messages.

    Raises:
        ConfigurationError: the file cannot be read, or it contains anything but secrets.
    """

    def invalid(message: str) -> ConfigurationError:
        return fault(file, None, f"{message} ({origin})")

    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_BYTES + 1)
        lines = data.decode("ascii").split()
    except OSError as error:
        raise invalid(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise invalid(f"it must contain a secret, which begins with {SECRET_PREFIX}") from None
    if not 1 <= len(lines) <= _MAX_SECRETS or len(data) > _MAX_BYTES:
        raise invalid(f"it must contain 1 to {_MAX_SECRETS} secrets, one per line")
    secrets = []
    for number, line in enumerate(lines, 1):
        try:
            secrets.append(parse_secret(line))
        except ValueError as error:
            raise invalid(f"secret {number} {error}") from None
    return tuple(secrets)


def warning_about(file: Path) -> str | None:
    """Return a warning if other users can read a file with secrets."""
    try:
        mode = stat.S_IMODE(os.stat(file).st_mode)
    except OSError:
        return None
    if not mode & 0o077:
        return None
    return f"other users can read the webhook secret: run `chmod 600 {str(file)!r}`"
