"""Where settings come from: environment variables, credential files, and files of `NAME=value`."""

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
"""Variables by names of earlier versions, and the fields that they set."""

_OF_COMMANDS: Final = ("STILLROOM_URL", "STILLROOM_TOKEN", "STILLROOM_PROFILE", "STILLROOM_CONFIG")
"""What `stillroom put` and others read; they may stand in the same environment."""


def credentials_folder() -> Path | None:
    """The folder with a file for each secret; https://systemd.io/CREDENTIALS/."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder and Path(folder).is_dir() else None


def given_names() -> list[str]:
    """The names of variables that are not empty, and of credential files."""
    names = [name for name, value in os.environ.items() if value]
    folder = credentials_folder()
    with contextlib.suppress(OSError):  # what cannot be read is said when its value is read
        names += os.listdir(folder) if folder else []
    return names


def former_values() -> dict[str, object]:
    """Fields that are set by a variable's former name, unless its new name is set too."""
    return {
        field: os.environ.get(variable_of(field)) or os.environ[former]
        for former, field in _FORMER.items()
        if os.environ.get(former)
    }


def values_in(file: Path) -> tuple[dict[str, object], list[str]]:
    """Fields that the `NAME=value` lines of a file set, and the names of all its lines.

    Raises:
        ConfigurationError: it cannot be read, or sets nothing.
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
    if not values:  # with nothing set it would be a new store in the folder at hand
        raise ConfigurationError(f"{str(file)!r} has no line that sets STILLROOM_… or R2_…")
    return values, list(lines)


def unread_names(names: Iterable[str]) -> list[str]:
    """A warning for each name of ours that no setting has, or that has another name now.

    Raises:
        ConfigurationError: one is so near to a setting that it must be meant.
    """
    fields = [str(one.validation_alias or name) for name, one in Fields.model_fields.items()]
    known = [*map(variable_of, fields), *_OF_COMMANDS, *_FORMER]
    given = {name.upper() for name in names}
    renamed = [
        f"{former} is named {variable_of(field)} now; the former name will not be read for ever"
        for former, field in _FORMER.items()
        if former in given
    ]
    return renamed + find_unread(given, known)


def without_environment(settings: type[S]) -> type[S]:
    """The same settings, which do not read the environment."""

    class WithoutEnvironment(settings):  # type: ignore[valid-type, misc]  # mypy knows no class made of a variable
        @classmethod
        def settings_customise_sources(
            cls, *_: object, init_settings: PydanticBaseSettingsSource, **__: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    return WithoutEnvironment


def variable_of(field: str) -> str:
    """The environment variable behind a field, as pydantic names it in an error."""
    return field if field.startswith("R2_") else f"STILLROOM_{field.upper()}"


def _field_of(variable: str) -> str:
    return variable.removeprefix("STILLROOM_").lower()
