"""The `--rate` option: bytes a second."""

import re
from typing import Any, Final

import click

_RATE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([kMG]?)(i?)B(?:/s)?")
_POWERS: Final = {"": 0, "k": 1, "M": 2, "G": 3}


class Rate(click.ParamType):  # type: ignore[type-arg]  # click is generic only since 8.4
    """Bytes a second: 50MB/s, 1.5GiB/s."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:  # noqa: ANN401  (click's signature)
        """Parse an option's text, such as `50MB/s`."""
        if isinstance(value, float):
            return value
        found = _RATE.fullmatch(value)
        rate = 0.0
        if found is not None:
            rate = float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2]]
        if rate < 1:
            self.fail(f"{value!r} is not a rate such as 500kB/s, 50MB/s or 1GiB/s", param, ctx)
        return rate


RATE: Final = Rate()
