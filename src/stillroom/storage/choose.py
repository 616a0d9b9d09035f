"""The start-up rule: which backend keeps the bytes."""

from dataclasses import dataclass
from pathlib import Path

from stillroom.storage.disk.home import DataDirectory
from stillroom.storage.disk.storage import DiskImageStorage
from stillroom.storage.interface import ImageStorage, SaveRules


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """A local filesystem.

    Attributes:
        data_dir: Made if missing; everything lies below it.
        min_free_bytes: Saves that would leave less are refused.
        durable: False skips every sync, for scratch data.
    """

    data_dir: Path
    min_free_bytes: int = 256 * 1024**2
    durable: bool = True


def open_storage(config: DiskConfig, rules: SaveRules) -> ImageStorage:
    """Open the configured backend.

    Raises:
        ConfigurationError: it cannot work; one sentence says why and what to do.
    """
    home = DataDirectory(config.data_dir, durable=config.durable)
    return DiskImageStorage(home, rules, min_free_bytes=config.min_free_bytes)
