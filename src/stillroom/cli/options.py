"""Options, types of their values, and groups that several commands share."""

import asyncio
import functools
import importlib
import json
import os
import re
import sys
from collections import UserDict
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, cast

import click

from stillroom.cli.exits import FAILED
from stillroom.durations import parse_duration

if TYPE_CHECKING:  # commands import the server's libraries only when they run
    from stillroom.features.database.config import RowsConfig
    from stillroom.settings import AllSettings

P = ParamSpec("P")

_RATE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([kMG]?)(i?)B(?:/s)?")

_PRINTING: Final = ("cat", "du", "facets", "ls", "plan", "search", "show", "url")
"""Commands that only print. They succeed even if the output is piped to a program that exits."""

flag = functools.partial(click.option, is_flag=True)
with_default = functools.partial(click.option, show_default=True)
DATA_DIR = click.option(
    "--data-dir", help="The data directory.  [STILLROOM_DATA_DIR, ./stillroom-data]"
)
PREFIX = click.option(
    "--prefix",
    default="",
    help="Only images whose path begins with this, without the media library.",
)
DRY_RUN = flag("--dry-run", help="Print what would be done, and do nothing.")
CONCURRENCY = with_default("-j", "--concurrency", type=click.IntRange(1, 64), default=8)


def json_option(text: str) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Return a decorator that adds the option `--json` as the argument `as_json`."""
    return flag("--json", "as_json", help=text)


def read_settings(data_dir: str | None) -> "AllSettings":
    """Read the settings of the server. `data_dir` is the value of `--data-dir`."""
    from stillroom.settings import AllSettings

    return AllSettings.read(data_dir=data_dir)


def rows_config(settings: "AllSettings") -> "RowsConfig":
    """Return the database configuration. Raise `ConfigurationError` if a driver is missing."""
    from stillroom.features.database.settings import DatabaseSettings

    return settings.section(DatabaseSettings).rows


def asynchronous(command: Callable[P, Coroutine[Any, Any, bool | None]]) -> Callable[P, None]:
    """Convert a coroutine function to a command. If it returns False, the exit status is 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if asyncio.run(command(*args, **kwargs)) is False:
            sys.exit(FAILED)

    return run


def with_features(command: Callable[..., Coroutine[Any, Any, bool | None]]) -> Callable[..., None]:
    """Convert a coroutine function with a `Store` argument to a command with `--data-dir`."""

    @functools.wraps(command)
    async def run(*, data_dir: str | None, **options: object) -> bool | None:
        from stillroom.assembly import opened_features

        async with opened_features(read_settings(data_dir)) as store:
            return await command(store, **options)

    return DATA_DIR(asynchronous(run))


def duration(text: str) -> timedelta:
    """Parse the value of an option that is a duration, such as 90s, 15m, 12h or 30d."""
    parsed = parse_duration(text)
    if not parsed:
        raise click.BadParameter(f"{text!r} is not a duration such as 90s, 15m, 12h or 30d")
    return parsed


def moment(text: str, zone: tzinfo | None = None) -> datetime:
    """Parse a date or time option. Without a UTC offset, it is in `zone` (default: local time)."""
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.replace(tzinfo=parsed.tzinfo or zone).astimezone(zone)
    except (ValueError, OverflowError) as error:
        message = "must be a time such as 2026-12-01 or 2026-12-01T09:00Z"
        raise click.BadParameter(message) from error


def rate(text: str) -> float:
    """Parse the value of an option that is a rate, such as 50MB/s, and return bytes per second."""
    match, number = _RATE.fullmatch(text), 0.0
    if match is not None:
        number = float(match[1]) * (1024 if match[3] else 1000) ** " kMG".index(match[2] or " ")
    if number < 1:
        raise click.BadParameter(f"{text!r} is not a rate such as 500kB/s, 50MB/s or 1GiB/s")
    return number


RATE = click.option("--rate", type=rate, help="Read no faster than this: 50MB/s.  [no limit]")


def json_or_file(text: str) -> dict[str, Any]:
    """Parse the value of an option that is a JSON object or the name of a file with one."""
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(
                f"neither a JSON object nor a file that can be read: {error}"
            ) from error
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise click.BadParameter('a JSON object is needed, such as {"prompt": "a fox", "seed": 7}')
    return parsed


class LazyCommands(UserDict[str, Any]):
    """Commands of a group by name. A module is imported when its command is needed."""

    def __getitem__(self, name: str) -> click.Command:
        command = self.data[name]
        if isinstance(command, str):
            command = self.data[name] = getattr(importlib.import_module(command), name)
        return cast("click.Command", command)


class Group(click.Group):
    """Command group that lists its commands without truncating their help."""

    group_class = type

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (click's own type)
        """Run a command. A closed output pipe is not an error for the commands in `_PRINTING`."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            if ctx.invoked_subcommand not in _PRINTING:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at exit
            ctx.exit(0)
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section of the help that lists the commands."""
        with formatter.section("Commands"):
            names = self.list_commands(ctx)
            helps = (self.commands[name].get_short_help_str(limit=1000) for name in names)
            formatter.write_dl(list(zip(names, helps, strict=True)))


def explained(error: click.ClickException) -> click.ClickException:
    """Replace some messages of click, such as those about invalid values of options."""
    if isinstance(error, click.NoSuchOption) and not error.possibilities:
        hint = "Put -- before a word that begins with a dash."
        return click.UsageError(f"{error.message.rstrip('.')}. {hint}", ctx=error.ctx)
    if isinstance(error, click.MissingParameter) and error.ctx and error.param:
        arguments = [it for it in error.ctx.command.params if isinstance(it, click.Argument)]
        if error.param in arguments[:-1]:  # the last argument got the only value
            names = " and ".join(argument.human_readable_name for argument in arguments)
            return click.UsageError(f"{names} are needed", ctx=error.ctx)
        return error
    if not isinstance(error, click.BadParameter) or not isinstance(error.param, click.Option):
        return error
    option, kind = max(error.param.opts, key=len), error.param.type
    message = error.message
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        number = "an integer" if isinstance(kind, click.types.IntParamType) else "a number"
        message = f"must be {number}{_bounds(kind)}"
    elif isinstance(kind, click.Choice):
        message = f"must be one of {', '.join(map(str, kind.choices))}"
    colon = "" if message.startswith("must ") else ":"
    return click.UsageError(f"{option}{colon} {message}", ctx=error.ctx)


def _bounds(kind: object) -> str:
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    return f" of at least {kind.min}" if kind.max is None else f" from {kind.min} to {kind.max}"
