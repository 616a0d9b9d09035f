"""The `--expires` option: a duration."""

import re
from datetime import timedelta
from typing import Any, Final

import click

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")


class Duration(click.ParamType):  # type: ignore[type-arg]  # click is generic only since 8.4
    """A whole number and a unit: 90s, 15m, 12h, 30d."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:  # noqa: ANN401  (click's signature)
        """Parse an option's text, such as `30d`."""
        if isinstance(value, timedelta):
            return value
        found = _DURATION.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is not a duration such as 90s, 15m, 12h or 30d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


DURATION: Final = Duration()
