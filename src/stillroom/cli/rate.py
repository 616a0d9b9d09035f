"""Option type for transfer rates."""

import re
from typing import Final

import click

_RATE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([kMG]?)(i?)B(?:/s)?")
_POWERS: Final = {"": 0, "k": 1, "M": 2, "G": 3}


def rate(text: str) -> float:
    """Parse a rate such as 50MB/s or 1.5GiB/s. Return bytes per second."""
    found = _RATE.fullmatch(text)
    number = 0.0
    if found is not None:
        number = float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2]]
    if number < 1:
        raise click.BadParameter(f"{text!r} is not a rate such as 500kB/s, 50MB/s or 1GiB/s")
    return number
