"""Command groups whose help is not truncated, and readable messages for invalid options."""

import importlib
import os
import sys
from collections import UserDict
from typing import Any, Final, cast

import click

_WHOLE: Final = 1000
"""Maximum length of a command's help in the list of commands. The default is a single line."""

_PRINTING: Final = ("cat", "du", "ls", "plan", "search", "show", "url")
"""Commands that only print. They succeed even if the program that reads the output exits early."""


class LazyCommands(UserDict[str, Any]):
    """Commands of a group by name. The name of a module is replaced by its command when needed."""

    def __getitem__(self, name: str) -> click.Command:
        command = self.data[name]
        if isinstance(command, str):
            command = self.data[name] = getattr(importlib.import_module(command), name)
        return cast("click.Command", command)


class Group(click.Group):
    """Command group that lists its commands without truncating their help."""

    group_class = type

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (click's own type)
        """Run a command. A closed output pipe is not an error for a command in `_PRINTING`."""
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
        found = ((name, self.commands[name]) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(_WHOLE)) for name, one in found])


def explained(error: click.ClickException) -> click.ClickException:
    """Return `error`, with a readable message if it is about an invalid value of an option."""
    if not isinstance(error, click.BadParameter) or isinstance(error, click.MissingParameter):
        return error
    if not isinstance(error.param, click.Option):
        return error
    option, kind = max(error.param.opts, key=len), error.param.type
    said = error.message
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        number = "an integer" if isinstance(kind, click.types.IntParamType) else "a number"
        said = f"must be {number}{_bounds(kind)}"
    elif isinstance(kind, click.Choice):
        said = f"must be one of {', '.join(map(str, kind.choices))}"
    colon = "" if said.startswith("must ") else ":"
    return click.UsageError(f"{option}{colon} {said}", ctx=error.ctx)


def _bounds(kind: object) -> str:
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    return f" of at least {kind.min}" if kind.max is None else f" from {kind.min} to {kind.max}"
