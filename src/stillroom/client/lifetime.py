"""How long a save stays, or a URL works, as callers say it."""

from datetime import timedelta

from stillroom.durations import parse_duration
from stillroom.errors import InvalidParameter

Lifetime = timedelta | int | str
"""A timedelta, seconds, or a text such as `90s`, `15m`, `12h` or `7d`, as `Expires-In` takes it."""


def seconds_of(lifetime: Lifetime) -> int:
    """The same in whole seconds; the server has the bounds.

    Raises:
        InvalidParameter: it is no duration.
    """
    if isinstance(lifetime, timedelta):
        return int(lifetime.total_seconds())
    duration = parse_duration(str(lifetime), may_lack_unit=True)
    if duration is None:
        raise InvalidParameter(
            f"expires_in is {lifetime!r}: give a timedelta, a number of seconds, or a text such as "
            "'90s', '15m', '12h' or '7d'",
            at=("argument", "expires_in"),
        )
    return int(duration.total_seconds())
