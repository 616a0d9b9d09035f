"""Option type for durations."""

from datetime import timedelta

import click

from stillroom.durations import parse_duration


def duration(text: str) -> timedelta:
    """Parse an integer with a unit, such as 90s, 15m, 12h or 30d."""
    found = parse_duration(text)
    if not found:
        raise click.BadParameter(f"{text!r} is not a duration such as 90s, 15m, 12h or 30d")
    return found
