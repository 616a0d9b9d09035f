"""The start-up rule: which backend keeps the bytes."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stillroom.errors import ConfigurationError
from stillroom.storage.address import Addressing, BucketAddress
from stillroom.storage.capabilities import UNWATCHED, CallObserver, ChangeObserver, unobserved
from stillroom.storage.disk.data_directory import IMAGE_FOLDERS, DataDirectory
from stillroom.storage.disk.inspection import DiskInspection
from stillroom.storage.disk.storage import LIST_CACHE_BYTES, DiskImageStorage
from stillroom.storage.inspection import Inspection
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import SaveRules

if TYPE_CHECKING:
    from stillroom.storage.objectstore import ObjectStore


EVERY_IMAGE: Final = SaveRules(max_bytes=10_000 * 16 * 1024**2)
"""Nothing that a store has is refused by another one: the most that a bucket takes in parts."""


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """A local filesystem.

    Attributes:
        data_dir: Made if missing; everything lies below it.
        min_free_bytes: Saves that would leave less are refused.
        durable: False skips every sync, for scratch data.
        list_cache_bytes: Most memory for the names in large folders, in each process.
    """

    data_dir: Path
    min_free_bytes: int = 256 * 1024**2
    durable: bool = True
    list_cache_bytes: int = LIST_CACHE_BYTES


@dataclass(frozen=True, slots=True)
class R2Config:
    """A bucket: Cloudflare R2, or any that speaks S3.

    Attributes:
        endpoint_url: Of the account, without the bucket.
        access_key_id: Names the token.
        secret_access_key: Signs; never shown.
        bucket: Its name.
        public_url: The CDN in front of the bucket, without a slash at the end. None:
            redirects go to presigned URLs.
        cache_control: Stored with every image.
        check_exists: Ask the bucket before redirecting.
        region: What signatures are made for.
        session_token: Of temporary credentials.
        addressing: Whether the bucket is named in the path or in the host.
    """

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    bucket: str
    public_url: str | None = None
    cache_control: str = "public, max-age=300"
    check_exists: bool = True
    region: str = "auto"
    session_token: str | None = field(default=None, repr=False)
    addressing: Addressing = "path"

    @property
    def address(self) -> BucketAddress:
        """Where the bucket is.

        Raises:
            ConfigurationError: its name cannot stand in a host.
        """
        return BucketAddress.of(self.endpoint_url, self.bucket, self.addressing)


def open_storage(
    config: DiskConfig | R2Config,
    rules: SaveRules,
    *,
    observer: CallObserver = unobserved,
    changes: ChangeObserver = UNWATCHED,
) -> ImageStorage:
    """Open the configured backend.

    Args:
        config: Which, and where.
        rules: What every save must keep to.
        observer: Hears of each sync, or each call to the bucket.
        changes: Hears of each save and each deletion.

    Raises:
        ConfigurationError: it cannot work; one sentence says why and what to do.
    """
    if isinstance(config, R2Config):
        return _open_r2(config, rules, observer, changes)
    data_directory = DataDirectory(config.data_dir, durable=config.durable, observer=observer)
    return DiskImageStorage(
        data_directory,
        rules,
        min_free_bytes=config.min_free_bytes,
        list_cache_bytes=config.list_cache_bytes,
        changes=changes,
    )


def open_inspection(config: DiskConfig | R2Config, known: Collection[str] = ()) -> Inspection:
    """Open the configured backend to look after it, not to serve from it.

    Args:
        config: The backend.
        known: Names of files in the data directory that are no images and belong there.

    Raises:
        ConfigurationError: it cannot work; one sentence says why and what to do.
    """
    if isinstance(config, R2Config):
        from stillroom.storage.bucket.inspection import R2Inspection

        description = f"bucket {config.bucket} at {config.endpoint_url}"
        return R2Inspection(_object_store(config), description=description)
    require_begun(config)
    return DiskInspection(DataDirectory(config.data_dir, durable=config.durable), known)


def require_begun(config: DiskConfig | R2Config) -> None:
    """Return if there may be anything: a wrong name must not become an empty store.

    Raises:
        ConfigurationError: there is no store yet.
    """
    if isinstance(config, DiskConfig) and not is_begun(config):
        raise ConfigurationError(
            f"there is no store in {str(config.data_dir)!r}: "
            "set STILLROOM_DATA_DIR to the folder that the server uses"
        )


def is_begun(config: DiskConfig | R2Config) -> bool:
    """Whether there may be anything, as in any bucket; nothing is made by asking."""
    return isinstance(config, R2Config) or (config.data_dir / IMAGE_FOLDERS[0]).is_dir()


def is_same_place(one: DiskConfig | R2Config, other: DiskConfig | R2Config) -> bool:
    """Whether two names are of one store, as far as names can tell."""
    if isinstance(one, R2Config) and isinstance(other, R2Config):
        return (one.endpoint_url, one.bucket) == (other.endpoint_url, other.bucket)
    if isinstance(one, DiskConfig) and isinstance(other, DiskConfig):
        return one.data_dir.resolve() == other.data_dir.resolve()
    return False


def _open_r2(
    config: R2Config, rules: SaveRules, observer: CallObserver, changes: ChangeObserver
) -> ImageStorage:
    # Imported here: the HTTP client takes a quarter of a second, and a disk needs none.
    from stillroom.storage.bucket.storage import R2ImageStorage

    served = config.public_url or "presigned URLs"
    return R2ImageStorage(
        _object_store(config, observer),
        rules,
        description=f"bucket {config.bucket!r} at {config.endpoint_url}, served by {served}",
        public_url=config.public_url,
        cache_control=config.cache_control,
        check_exists=config.check_exists,
        changes=changes,
    )


def _object_store(config: R2Config, observer: CallObserver = unobserved) -> "ObjectStore":
    from stillroom.storage.s3.client import BucketClient
    from stillroom.storage.s3.signing import Signer
    from stillroom.storage.s3.store import S3ObjectStore

    address = config.address
    signer = Signer(
        address.host,
        config.access_key_id,
        config.secret_access_key,
        region=config.region,
        session_token=config.session_token,
    )
    return S3ObjectStore(BucketClient(address, signer, observer=observer))
