"""Groups of commands, whose help has each command's first sentence whole."""

from typing import Final

import click

_WHOLE: Final = 1000
"""Letters; click's own limit is what fits on a line, and the rest is dots."""


class Group(click.Group):
    """A group that lists its commands without cutting what they do."""

    group_class = type

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
