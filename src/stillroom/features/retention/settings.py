"""Settings of retention."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from stillroom.durations import parse_duration
from stillroom.features.retention.rules import FILE_NAME
from stillroom.store.settings import Settings, parsed_by

_MAX_TTL: Final = timedelta(days=99_999)


def _parse_ttl(text: str) -> timedelta | None:
    if text == "off":
        return None
    ttl = parse_duration(text)
    if not ttl or ttl > _MAX_TTL:
        raise ValueError("must be `off`, or a duration such as 90s, 15m, 12h or 30d")
    return ttl


class RetentionSettings(Settings):
    """Settings of the retention rules."""

    compute_ttl: Annotated[timedelta | None, parsed_by(_parse_ttl)] = None
    """Age after which images that were not ingested are deleted; not set: they are kept. See
    docs/media.md#results-that-expire."""

    retention_file: Path | None = None
    """File with the retention rules: docs/retention.md. By default, this is `retention.toml` in the
    data directory, if that file exists."""

    @property
    def files(self) -> list[Path]:
        """Configuration files that may be in the data directory."""
        named = [] if self.retention_file is None else [self.retention_file]
        return [*super().files, self.data_dir / FILE_NAME, *named]


SECTION = RetentionSettings
