"""Parser for durations such as `90s`, `15m`, `12h` or `7d`."""

import re
from datetime import timedelta
from typing import Final

_TEXT: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS: Final = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

TEN_YEARS: Final = timedelta(days=3650)  # maximum lifetime of an image that expires

_MAX_AGE: Final = timedelta(days=99_999)


def parse_duration(text: str, *, may_lack_unit: bool = False) -> timedelta | None:
    """Parse a duration (up to nine digits and a unit). Return None if it is malformed.

    With `may_lack_unit`, a number without a unit is in seconds. Callers must check the range.
    """
    match = _TEXT.fullmatch(text)
    if match is None or not (match[2] or may_lack_unit):
        return None
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_age(text: str) -> timedelta | None:
    """Parse a duration setting. Return None for `off`. Raise `ValueError` if it is malformed."""
    age = None if text == "off" else parse_duration(text)
    if text != "off" and (not age or age > _MAX_AGE):
        raise ValueError("must be `off`, or a duration such as 90s, 15m, 12h or 30d")
    return age
