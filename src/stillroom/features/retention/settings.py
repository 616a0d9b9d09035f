"""Settings of retention."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from stillroom.durations import parse_age
from stillroom.features.retention.rules import FILE_NAME
from stillroom.store.settings import Settings, parsed_by


class RetentionSettings(Settings):
    """Settings of the retention rules."""

    compute_ttl: Annotated[timedelta | None, parsed_by(parse_age)] = None
    """Age after which images that were not ingested are deleted; not set: they are kept. See
    docs/retention.md#rules."""

    retention_file: Path | None = None
    """File with the retention rules: docs/retention.md. By default, this is `retention.toml` in the
    data directory, if that file exists."""

    @property
    def files(self) -> list[Path]:
        """Configuration files that may be in the data directory."""
        named = [] if self.retention_file is None else [self.retention_file]
        return [*super().files, self.data_dir / FILE_NAME, *named]
