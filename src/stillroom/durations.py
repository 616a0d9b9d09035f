"""Durations as people write them: `90s`, `15m`, `12h`, `7d`."""

import re
from datetime import timedelta
from typing import Final

_TEXT: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS: Final = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

TEN_YEARS: Final = timedelta(days=3650)
"""The longest life of an image that has an end, by a rule or a request."""


def parse_duration(text: str, *, may_lack_unit: bool = False) -> timedelta | None:
    """The duration that a text says: at most nine digits, and a unit; None: it says none.

    Without a unit, where that may be, they are seconds. The bounds are the caller's.
    """
    found = _TEXT.fullmatch(text)
    if found is None or not (found[2] or may_lack_unit):
        return None
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
