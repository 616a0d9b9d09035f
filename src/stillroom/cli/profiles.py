"""Profiles: named servers with their tokens, in a file that only its owner can read."""

import configparser
import os
import re
import stat
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import click

from stillroom.cli.options import Group, json_option
from stillroom.cli.output import echo_record
from stillroom.client.connection import Connection
from stillroom.errors import ConfigurationError

DEFAULT: Final = "default"
"""Name of the profile that is used if nothing else names a server."""

_MAX_BYTES: Final = 1024**2
_KEYS: Final = frozenset(("url", "token"))
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECTION: Final = re.compile(r"^(?=\[)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Profile:
    """URL and token of a server."""

    url: str | None
    token: str | None = field(repr=False)


def profiles_file() -> Path:
    """Return `STILLROOM_CONFIG`, or the default path of the profiles file."""
    if named := os.environ.get("STILLROOM_CONFIG"):
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "stillroom" / "stillroom.conf"


def find_profile(name: str | None) -> Profile | None:
    """Return a profile, or raise `ConfigurationError` if it does not exist.

    Without a name, return the profile `default`, or None if it does not exist.
    """
    profiles = _parsed(_read())
    if name is not None and name not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise ConfigurationError(
            f"there is no profile {name!r} in {str(profiles_file())!r} (existing profiles: "
            f"{known}): create it with `stillroom profiles set`"
        )
    return profiles.get(name or DEFAULT)


def _parsed(text: str) -> dict[str, Profile]:
    file = str(profiles_file())
    # Interpolation is off because a token may contain a percent sign.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(text)
    except configparser.Error as error:
        faults = getattr(error, "errors", None)
        line = faults[0][0] if faults else getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        # The message of `error` contains the line, which may be a token.
        raise ConfigurationError(
            f"{file!r}{where}: this is not a profile: write [name], then url = … and token = …"
        ) from None
    parsed: dict[str, Profile] = {}
    for name in parser.sections():
        if unknown := ", ".join(sorted(set(parser[name]) - _KEYS)):
            raise ConfigurationError(
                f"{file!r}: profile {name!r} contains {unknown}: use only url and token"
            )
        parsed[name] = Profile(parser[name].get("url") or None, parser[name].get("token") or None)
    return parsed


def _read() -> str:
    file = profiles_file()
    try:
        with file.open("rb") as opened:
            properties = os.fstat(opened.fileno())
            if not stat.S_ISREG(properties.st_mode):
                raise ConfigurationError(
                    f"the profiles cannot be read, because {str(file)!r} is not a regular file: "
                    "replace it with a regular file"
                )
            if properties.st_mode & 0o077:
                raise ConfigurationError(
                    f"{str(file)!r} contains tokens, and other users can open it (mode "
                    f"{stat.S_IMODE(properties.st_mode):o}): run `chmod 600 {file}`"
                )
            if properties.st_size > _MAX_BYTES:
                raise ConfigurationError(
                    f"the profiles file {str(file)!r} is larger than {_MAX_BYTES} bytes: remove "
                    "everything that is not a profile"
                )
            return opened.read().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"the profiles file {str(file)!r} is not valid UTF-8: save it in this encoding"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"the profiles cannot be read: {error}") from error


def change_profile(name: str, profile: Profile | None) -> None:
    """Add or replace a profile, or remove it if `profile` is None. Comments are kept."""
    before = _read()
    others = {other: kept for other, kept in _parsed(before).items() if other != name}
    expected = others if profile is None else {**others, name: profile}
    after = _with(before, name, profile)
    if len(after.encode()) > _MAX_BYTES or _parsed(after) != expected:
        raise ConfigurationError(
            f"cannot change profile {name!r} in {str(profiles_file())!r} safely: edit it by hand"
        )
    _replace(profiles_file().resolve(), after)  # a symbolic link is kept


def _with(text: str, name: str, profile: Profile | None) -> str:
    new = ""
    if profile is not None:
        values = asdict(profile).items()
        lines = (f"{key} = {value}\n" for key, value in values if value is not None)
        new = "".join((f"[{name}]\n", *lines))
    sections = _SECTION.split(text)
    for number, section in enumerate(sections):
        if section.startswith(f"[{name}]"):
            old = section.splitlines(keepends=True)
            comments = "".join(line for line in old if line.lstrip().startswith(("#", ";")))
            end = "\n" if new and not comments and section != sections[-1] else ""
            sections[number] = f"{new}{end}{comments}"
            return "".join(sections)
    end = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
    return f"{text}{end}{new}" if new else text


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        descriptor, new = tempfile.mkstemp(dir=folder)  # mode 600
        with open(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(descriptor)
        os.replace(new, file)


@click.group(cls=Group)
def profiles() -> None:
    """Manage profiles: named servers with their tokens, in a file that only you can read."""


@profiles.command("ls")
@json_option("One JSON object per line: name, url, token.")
def list_profiles(*, as_json: bool) -> None:
    """List each profile's name and URL, and whether it has a token. Tokens are never shown."""
    known_profiles = _parsed(_read())
    if not known_profiles:
        click.echo("there are no profiles", err=True)
    for name, profile in known_profiles.items():
        known = {"name": name, "url": profile.url, "token": profile.token is not None}
        line = f"{name}  {profile.url or '-'}  {'token' if profile.token else 'no token'}"
        echo_record(known, line, as_json=as_json)


def _read_token() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Token", hide_input=True))
    token = sys.stdin.read(_MAX_BYTES).strip()
    if not token:
        raise click.UsageError("standard input is empty: `--token -` reads the token from there")
    return token


@profiles.command("set")
@click.argument("name")
@click.option("--url", help="The server.")
@click.option("--token", help="The token; `-` reads it from standard input.")
def set_profile(name: str, *, url: str | None, token: str | None) -> None:
    """Add or change the profile NAME. Omitted options keep their values.

    The profile `default` is used if nothing else names a server. Prefer `--token -`, because other
    users of the machine can see the options of a command.
    """
    if _NAME.fullmatch(name) is None:
        raise click.UsageError(
            "the name of a profile must consist of 1 to 64 letters, digits, dots, hyphens and "
            "underscores"
        )
    known = _parsed(_read()).get(name, Profile(None, None))
    if token == "-":  # noqa: S105  (that is no token)
        token = _read_token()
    made = Profile(url or known.url, token or known.token)
    if made.url is None:
        raise click.UsageError("pass --url with the URL of the server")
    for value in (made.url, made.token or ""):
        if not value.isascii() or not value.isprintable() or " " in value:
            raise click.UsageError(
                "the URL or the token contains a space or another character that is not allowed: "
                "use printable ASCII characters only"
            )
    Connection.to(made.url, None)
    change_profile(name, made)
    click.echo(f"saved profile {name} in {profiles_file()}", err=True)


@profiles.command("rm")
@click.argument("name")
def remove_profile(name: str) -> None:
    """Remove the profile NAME, and its token."""
    find_profile(name)
    change_profile(name, None)
