"""Parsing of durations: `90s`, `15m`, `12h`, `7d`."""

import re
from datetime import timedelta
from typing import Final

_TEXT: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS: Final = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

TEN_YEARS: Final = timedelta(days=3650)
"""Maximum lifetime of an image that expires, by a rule or a request."""


def parse_duration(text: str, *, may_lack_unit: bool = False) -> timedelta | None:
    """Parse a duration of at most nine digits and a unit; return None if it is malformed.

    Without a unit, if that is allowed, it is in seconds. Callers check its bounds.
    """
    match = _TEXT.fullmatch(text)
    if match is None or not (match[2] or may_lack_unit):
        return None
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
