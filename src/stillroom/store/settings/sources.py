"""Sources of settings: environment variables, credential files, `NAME=value` files."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from stillroom.errors import ConfigurationError
from stillroom.store.settings.fields import variable_of
from stillroom.variables import PREFIXES, find_unread

_RENAMED: Final = {"STILLROOM_SHORT_ROAD": "STILLROOM_FAST_PATH"}  # by their former names

_OF_COMMANDS: Final = ("STILLROOM_URL", "STILLROOM_TOKEN", "STILLROOM_PROFILE", "STILLROOM_CONFIG")
"""Variables of `stillroom put` and other commands, allowed in the same environment."""


def credentials_folder() -> Path | None:
    """Return the folder with a file for each secret (https://systemd.io/CREDENTIALS/)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder and Path(folder).is_dir() else None


def given_names() -> list[str]:
    """Return the names of non-empty variables and of credential files."""
    names = [name for name, value in os.environ.items() if value]
    folder = credentials_folder()
    with contextlib.suppress(OSError):  # reading the values reports errors
        names += os.listdir(folder) if folder else []
    return names


def former_values() -> dict[str, object]:
    """Return the values of variables that are set under a former name. A new name has priority."""
    return {
        name: os.environ.get(name) or os.environ[former]
        for former, name in _RENAMED.items()
        if os.environ.get(former)
    }


def values_in(file: Path) -> tuple[dict[str, object], list[str]]:
    """Read a file. Return the values of Stillroom variables, and the names of all variables."""
    try:
        found = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error}") from error
    lines = {name: value for name, value in found.items() if value}
    values: dict[str, object] = {
        _RENAMED.get(name, name).replace("STILLROOM_R2_", "R2_"): value
        for name, value in lines.items()
        if name.startswith(PREFIXES)
    }
    if not values:  # defaults would create a new store in the current folder
        raise ConfigurationError(f"{str(file)!r} has no line that sets STILLROOM_… or R2_…")
    return values, list(lines)


def unread_names(names: Iterable[str], fields: Iterable[str]) -> list[str]:
    """Return a warning for each variable that was renamed or that no setting reads.

    Raises `ConfigurationError` for a name that looks like a misspelled setting.
    """
    known = [*map(variable_of, fields), *_OF_COMMANDS, *_RENAMED]
    given = {name.upper() for name in names}
    renamed = [
        f"{former} was renamed to {name}: use the new name"
        for former, name in _RENAMED.items()
        if former in given
    ]
    return renamed + find_unread(given, known)
