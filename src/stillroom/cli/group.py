"""Groups of commands, with full first sentences in their help."""

import os
import sys
from typing import Any, Final

import click

_WHOLE: Final = 1000
"""Letters; click's own limit is what fits on a line, and the rest is dots."""


_PRINTING: Final = ("cat", "du", "ls", "plan", "search", "show", "url")
"""Commands that only print: who reads no further, as `head`, has seen what they wanted."""


class Group(click.Group):
    """Group that lists its commands without truncating their help."""

    group_class = type

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (click's own type)
        """Run a command. If it only prints, it succeeds even if the reader of its output stops."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            if ctx.invoked_subcommand not in _PRINTING:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush
            ctx.exit(0)
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section on commands."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, command.get_short_help_str(_WHOLE))
            for name, command in found
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
