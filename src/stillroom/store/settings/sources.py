"""Sources of settings: environment variables, credential files, `NAME=value` files."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from pydantic.fields import FieldInfo

from stillroom.errors import ConfigurationError
from stillroom.store.settings.fields import FormerName, variable_of
from stillroom.variables import PREFIXES, find_unread

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


def former_names(fields: Mapping[str, FieldInfo]) -> dict[str, str]:
    """Return the variables of the fields by their names in earlier versions."""
    return {
        former.variable: variable_of(name)
        for name, field in fields.items()
        for former in field.metadata
        if isinstance(former, FormerName)
    }


def former_values(renamed: Mapping[str, str]) -> dict[str, object]:
    """Return the values of variables that are set under a former name. A new name has priority."""
    return {
        name: os.environ.get(name) or os.environ[former]
        for former, name in renamed.items()
        if os.environ.get(former)
    }


def values_in(file: Path, renamed: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """Read a file. Return the values of its Stillroom variables, and the names of all variables.

    Raises:
        ConfigurationError: the file cannot be read, or sets nothing.
    """
    try:
        found = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error}") from error
    lines = {name: value for name, value in found.items() if value}
    values: dict[str, object] = {
        renamed.get(name, name).replace("STILLROOM_R2_", "R2_"): value
        for name, value in lines.items()
        if name.startswith(PREFIXES)
    }
    if not values:  # defaults would create a new store in the current folder
        raise ConfigurationError(f"{str(file)!r} has no line that sets STILLROOM_… or R2_…")
    return values, list(lines)


def unread_names(names: Iterable[str], fields: Mapping[str, FieldInfo]) -> list[str]:
    """Return a warning for each Stillroom variable that was renamed or that no setting reads.

    Raises:
        ConfigurationError: a name looks like a misspelled setting.
    """
    renamed = former_names(fields)
    known = [*map(variable_of, fields), *_OF_COMMANDS, *renamed]
    given = {name.upper() for name in names}
    warnings = [
        f"{former} was renamed to {name}: use the new name"
        for former, name in renamed.items()
        if former in given
    ]
    return warnings + find_unread(given, known)
