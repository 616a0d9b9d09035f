"""How long a save stays, or a URL works, as callers say it."""

import re
from datetime import timedelta
from typing import Final

from stillroom.errors import InvalidParameter

Lifetime = timedelta | int | str
"""A timedelta, seconds, or a text such as `90s`, `15m`, `12h` or `7d`, as `Expires-In` takes it."""

_TEXT: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(lifetime: Lifetime) -> int:
    """The same in whole seconds; the server has the bounds.

    Raises:
        InvalidParameter: it is no duration.
    """
    if isinstance(lifetime, timedelta):
        return int(lifetime.total_seconds())
    found = _TEXT.fullmatch(str(lifetime))
    if found is None:
        raise InvalidParameter(
            f"expires_in is {lifetime!r}: give a timedelta, a number of seconds, or a text such as "
            "'90s', '15m', '12h' or '7d'",
            at=("argument", "expires_in"),
        )
    return int(found[1]) * _UNITS[found[2]]
