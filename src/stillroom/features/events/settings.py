"""Settings of events."""

from datetime import timedelta
from typing import Annotated, Final

from stillroom.durations import TEN_YEARS, parse_duration
from stillroom.store.settings import Settings, parsed_by

_OFF: Final = timedelta(0)


def _parse_retention(text: str) -> timedelta:
    age = _OFF if text == "0" else parse_duration(text)
    if age is None or age > TEN_YEARS:
        raise ValueError("must be `0`, or a duration such as 12h or 7d, at most ten years")
    return age


class EventSettings(Settings):
    """Settings of events."""

    events_retention: Annotated[timedelta, parsed_by(_parse_retention)] = timedelta(days=7)
    """Age after which events are deleted, such as `12h` or `7d`. With `0`, there are no events."""


SECTION = EventSettings
