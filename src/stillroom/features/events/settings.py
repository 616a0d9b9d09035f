"""Settings of events and webhooks."""

import itertools
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from stillroom.durations import TEN_YEARS, parse_duration
from stillroom.store.settings import Settings, parsed_by


def _parse_retention(text: str) -> timedelta:
    age = timedelta(0) if text == "0" else parse_duration(text)
    if age is None or age > TEN_YEARS:
        raise ValueError("must be `0`, or a duration such as 12h or 7d, at most ten years")
    return age


class EventsSettings(Settings):
    """Settings of events and webhooks."""

    events_retention: Annotated[timedelta, parsed_by(_parse_retention)] = timedelta(days=7)
    """Age after which events are deleted, such as `12h` or `7d`. With `0`, there are no events."""

    webhooks_file: Path | None = None
    """File with the endpoints that get webhooks. By default, this is `webhooks.toml` in the data
    directory, if that file exists."""

    @property
    def files(self) -> list[Path]:
        """Configuration files that may be in the data directory."""
        from stillroom.features.events.webhook_file import FILE_NAME, configuration_files

        places = filter(None, (self.data_dir / FILE_NAME, self.webhooks_file))
        return [*super().files, *itertools.chain(*map(configuration_files, places))]
