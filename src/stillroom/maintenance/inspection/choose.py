"""Factory functions that open a store for inspection."""

from collections.abc import Collection

from stillroom.errors import ConfigurationError
from stillroom.maintenance.inspection.disk import DiskInspection
from stillroom.maintenance.inspection.port import Inspection
from stillroom.store.choose import DiskConfig, R2Config, open_object_store
from stillroom.store.disk.data_directory import IMAGE_FOLDERS, DataDirectory


def open_inspection(config: DiskConfig | R2Config, known: Collection[str] = ()) -> Inspection:
    """Open a store for inspection. Files in `known` are not reported as unexpected."""
    if isinstance(config, R2Config):
        from stillroom.maintenance.inspection.bucket import R2Inspection

        description = f"bucket {config.bucket} at {config.endpoint_url}"
        return R2Inspection(open_object_store(config), description=description)
    require_store(config)
    return DiskInspection(DataDirectory(config.data_dir, durable=config.durable), known)


def require_store(config: DiskConfig | R2Config) -> None:
    """Raise `ConfigurationError` if the data directory contains no store."""
    if isinstance(config, DiskConfig) and not has_store(config):
        raise ConfigurationError(
            f"there is no store in {str(config.data_dir)!r}: "
            "set STILLROOM_DATA_DIR to the folder that the server uses or, for a bucket, set "
            "R2_ENDPOINT_URL and its other R2_ variables"
        )


def has_store(config: DiskConfig | R2Config) -> bool:
    """Return whether the data directory contains a store. Always True for a bucket."""
    return isinstance(config, R2Config) or (config.data_dir / IMAGE_FOLDERS[0]).is_dir()
