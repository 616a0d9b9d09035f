"""Sources of settings: environment variables, credential files, `NAME=value` files."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeVar

from dotenv import dotenv_values
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from stillroom.errors import ConfigurationError
from stillroom.settings.fields import Fields
from stillroom.variables import PREFIXES, find_unread

S = TypeVar("S", bound=BaseSettings)

_FORMER: Final = {"STILLROOM_SHORT_ROAD": "fast_path"}
"""Fields by variable names of earlier versions."""

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
    """Return fields set by former variable names. A new name takes precedence."""
    return {
        field: os.environ.get(variable_of(field)) or os.environ[former]
        for former, field in _FORMER.items()
        if os.environ.get(former)
    }


def values_in(file: Path) -> tuple[dict[str, object], list[str]]:
    """Return the fields that a file's `NAME=value` lines set, and the names in all lines.

    Raises:
        ConfigurationError: the file cannot be read, or sets nothing.
    """
    try:
        found = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error}") from error
    lines = {name: value for name, value in found.items() if value}
    values: dict[str, object] = {
        name if name.startswith("R2_") else _FORMER.get(name, _field_of(name)): value
        for name, value in lines.items()
        if name.startswith(PREFIXES)
    }
    if not values:  # defaults would create a new store in the current folder
        raise ConfigurationError(f"{str(file)!r} has no line that sets STILLROOM_… or R2_…")
    return values, list(lines)


def unread_names(names: Iterable[str]) -> list[str]:
    """Return a warning for each Stillroom variable that was renamed or that no setting reads.

    Raises:
        ConfigurationError: a name looks like a misspelled setting.
    """
    fields = [str(one.validation_alias or name) for name, one in Fields.model_fields.items()]
    known = [*map(variable_of, fields), *_OF_COMMANDS, *_FORMER]
    given = {name.upper() for name in names}
    renamed = [
        f"{former} was renamed to {variable_of(field)}: use the new name"
        for former, field in _FORMER.items()
        if former in given
    ]
    return renamed + find_unread(given, known)


def without_environment(settings: type[S]) -> type[S]:
    """Return a subclass that does not read the environment."""

    class WithoutEnvironment(settings):  # type: ignore[valid-type, misc]  # mypy knows no class made of a variable
        @classmethod
        def settings_customise_sources(
            cls, *_: object, init_settings: PydanticBaseSettingsSource, **__: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    return WithoutEnvironment


def variable_of(field: str) -> str:
    """Return the environment variable of a field, as named in pydantic's errors."""
    return field if field.startswith("R2_") else f"STILLROOM_{field.upper()}"


def _field_of(variable: str) -> str:
    return variable.removeprefix("STILLROOM_").lower()
