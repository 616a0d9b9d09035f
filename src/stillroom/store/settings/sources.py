"""Sources of settings: environment variables, credential files, and `NAME=value` files."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from stillroom.errors import ConfigurationError
from stillroom.store.settings.fields import variable_of
from stillroom.variables import PREFIXES, find_unread

_RENAMED: Final = {"STILLROOM_SHORT_ROAD": "STILLROOM_FAST_PATH"}  # new names by former names

# Variables of `stillroom put` and other commands, which may be in the same environment.
_OF_COMMANDS: Final = ("STILLROOM_URL", "STILLROOM_TOKEN", "STILLROOM_PROFILE", "STILLROOM_CONFIG")


def credentials_folder() -> Path | None:
    """Return the folder with one file per secret, if any (https://systemd.io/CREDENTIALS/)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder and Path(folder).is_dir() else None


def variable_names() -> list[str]:
    """Return the names of environment variables that are not empty, and of credential files."""
    names = [name for name, value in os.environ.items() if value]
    folder = credentials_folder()
    with contextlib.suppress(OSError):  # reading the values reports errors
        names += os.listdir(folder) if folder else []
    return names


def former_values() -> dict[str, object]:
    """Return variables that are set by a former name. If both names are set, the new one counts."""
    return {
        name: os.environ.get(name) or os.environ[former]
        for former, name in _RENAMED.items()
        if os.environ.get(former)
    }


def read_file(file: Path) -> tuple[dict[str, object], list[str]]:
    """Read `NAME=value` lines from a file. Return Stillroom's variables, and all names in it."""
    try:
        variables = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error}") from error
    lines = {name: value for name, value in variables.items() if value}
    values: dict[str, object] = {
        _RENAMED.get(name, name).replace("STILLROOM_R2_", "R2_"): value
        for name, value in lines.items()
        if name.startswith(PREFIXES)
    }
    if not values:  # defaults would create a new store in the current folder
        raise ConfigurationError(f"{str(file)!r} has no line that sets STILLROOM_… or R2_…")
    return values, list(lines)


def unread_names(names: Iterable[str], fields: Iterable[str]) -> list[str]:
    """Return warnings about variables that no setting reads. Raise an error for misspelled ones."""
    known = [*map(variable_of, fields), *_OF_COMMANDS, *_RENAMED]
    upper = {name.upper() for name in names}
    former = [name for name in _RENAMED if name in upper]
    renamed = [f"{name} was renamed to {_RENAMED[name]}: use the new name" for name in former]
    return renamed + find_unread(upper, known)
