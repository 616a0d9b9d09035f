"""Lifetimes of saved images and signed URLs, in the forms that callers may pass."""

from datetime import timedelta

from stillroom.durations import parse_duration
from stillroom.errors import InvalidParameter

Lifetime = timedelta | int | str
"""Lifetime: a timedelta, a number of seconds, or a string such as `90s`, `15m`, `12h` or `7d`."""


def seconds_of(lifetime: Lifetime) -> int:
    """Convert a lifetime to whole seconds. The server checks whether it is too short or too long.

    Raises:
        InvalidParameter: The value is not a duration.
    """
    if isinstance(lifetime, timedelta):
        return int(lifetime.total_seconds())
    duration = parse_duration(str(lifetime), may_lack_unit=True)
    if duration is None:
        raise InvalidParameter(
            f"expires_in is {lifetime!r}: pass a timedelta, a number of seconds, or a string "
            "such as '90s', '15m', '12h' or '7d'",
            at=("argument", "expires_in"),
        )
    return int(duration.total_seconds())
