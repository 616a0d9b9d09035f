"""Profiles: servers by name, with their tokens, in a file that only its owner can read."""

import configparser
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillroom.errors import ConfigurationError

FILE_VARIABLE: Final = "STILLROOM_CONFIG"
DEFAULT: Final = "default"
"""The profile that counts where nothing else names a server."""

_MAX_BYTES: Final = 1024**2
_KEYS: Final = frozenset(("url", "token"))


@dataclass(frozen=True, slots=True)
class Profile:
    """A server and its token; `repr` shows no token."""

    url: str | None
    token: str | None

    def __repr__(self) -> str:
        return f"Profile({self.url!r})"


def profiles_file() -> Path:
    """`STILLROOM_CONFIG`, else `stillroom/stillroom.conf` in the user's configuration folder."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "stillroom" / "stillroom.conf"


def profile_named(name: str) -> Profile:
    """The profile of this name.

    Raises:
        ConfigurationError: there is none, or the file cannot be used.
    """
    profiles = _profiles()
    if name not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise ConfigurationError(f"no profile {name!r} in {str(profiles_file())!r}: it has {known}")
    return profiles[name]


def default_profile() -> Profile | None:
    """The profile `default`, where the file has one.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    return _profiles().get(DEFAULT)


def _profiles() -> dict[str, Profile]:
    file = profiles_file()
    try:
        text = _read(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigurationError(f"the profiles cannot be read: {error}") from error
    # Without interpolation: a token may have a percent sign in it.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(text)
    except configparser.Error as error:
        faults = getattr(error, "errors", None)
        line = faults[0][0] if faults else getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        # The error's own text would show the line, which may be a token.
        raise ConfigurationError(
            f"{str(file)!r}{where}: this is no profile: a [name], then url = … and token = …"
        ) from None
    for name in parser.sections():
        if unknown := sorted(set(parser[name]) - _KEYS):
            raise ConfigurationError(
                f"{str(file)!r}: profile {name!r} has {', '.join(unknown)}: only url and token are "
                "read"
            )
    return {
        name: Profile(parser[name].get("url") or None, parser[name].get("token") or None)
        for name in parser.sections()
    }


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{str(file)!r} is no file: profiles are in a file")
        if found.st_mode & 0o077:
            raise ConfigurationError(
                f"{str(file)!r} has tokens, and other users may open it (mode "
                f"{stat.S_IMODE(found.st_mode):o}): chmod 600 {file}"
            )
        if found.st_size > _MAX_BYTES:
            raise ConfigurationError(f"{str(file)!r} is too large for a file of profiles")
        try:
            return opened.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{str(file)!r} is not UTF-8") from error
