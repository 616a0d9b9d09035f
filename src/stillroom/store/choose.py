"""Factory functions that open the configured storage backend (disk or bucket)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import urlsplit

from stillroom.store.address import Addressing, BucketAddress
from stillroom.store.capabilities import UNWATCHED, CallObserver, ChangeObserver, unobserved
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.flushes import GroupCommit
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.port import ImageStorage
from stillroom.store.values import SaveRules

if TYPE_CHECKING:
    from stillroom.store.objectstore import ObjectStore

EVERY_IMAGE: Final = SaveRules(max_bytes=10_000 * 16 * 1024**2)
"""Rules for imports from another store. S3 limits an upload to 10,000 parts, here of 16 MiB."""


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """Configuration of the disk backend."""

    kind: ClassVar = "disk"
    public_url: ClassVar[None] = None
    image_origins: ClassVar[Sequence[str]] = ()
    upload_origins: ClassVar[Sequence[str]] = ()

    data_dir: Path  # data directory, created if missing
    min_free_bytes: int = 256 * 1024**2  # saves that would leave less are refused
    durable: bool = True  # False disables all fsync calls, for data that may be lost
    group_commit: GroupCommit = "auto"  # whether concurrent saves share flushes

    @property
    def place(self) -> object:
        """Value that is equal for all configurations of the same store."""
        return self.data_dir.resolve()

    @property
    def name(self) -> str:
        """Readable and unique name of the store, in ASCII."""
        return f"the data directory {str(self.place)!a}"


@dataclass(frozen=True, slots=True)
class R2Config:
    """Configuration of the bucket backend: Cloudflare R2 or any S3 service."""

    kind: ClassVar = "bucket"

    endpoint_url: str  # URL of the account, without the bucket
    access_key_id: str
    secret_access_key: str = field(repr=False)
    bucket: str
    public_url: str | None = None  # URL of a CDN, without a final slash; None: presigned URLs
    cache_control: str = "public, max-age=300"  # `Cache-Control` value stored with every image
    media_cache_control: str = "public, max-age=86400, immutable"  # the same in the media library
    check_exists: bool = True  # check that an image exists before redirecting
    region: str = "auto"
    session_token: str | None = field(default=None, repr=False)  # of temporary credentials
    addressing: Addressing = "path"  # position of the bucket's name in URLs

    @property
    def address(self) -> BucketAddress:
        """Address of the bucket. Raises the same exceptions as `BucketAddress.of`."""
        return BucketAddress.of(self.endpoint_url, self.bucket, self.addressing)

    @property
    def place(self) -> object:
        """Value that is equal for all configurations of the same store."""
        return self.endpoint_url, self.bucket

    @property
    def upload_origins(self) -> Sequence[str]:
        """Origins of the URLs to which clients upload with a grant."""
        return [self.address.origin]

    @property
    def name(self) -> str:
        """Readable and unique name of the store, in ASCII."""
        address = BucketAddress.of(self.endpoint_url, self.bucket)  # equal for all spellings
        return f"the bucket {self.bucket!r} at {address.host}{address.root}"

    @property
    def image_origins(self) -> Sequence[str]:
        """Origins of the URLs to which reads of images are redirected."""
        if self.public_url is None:
            return [self.address.origin]
        parts = urlsplit(self.public_url)
        return [f"{parts.scheme}://{parts.netloc}"]


def open_storage(
    config: DiskConfig | R2Config,
    rules: SaveRules,
    *,
    observer: CallObserver = unobserved,
    changes: ChangeObserver = UNWATCHED,
    disk: Callable[..., ImageStorage] = DiskImageStorage,
) -> ImageStorage:
    """Open the configured backend, or raise `ConfigurationError`. `disk` creates a disk backend."""
    if isinstance(config, R2Config):
        # Imported here, since that takes a quarter of a second, and a disk does not need it.
        from stillroom.store.bucket.storage import R2ImageStorage

        served = config.public_url or "presigned URLs"
        return R2ImageStorage(
            open_object_store(config, observer),
            rules,
            description=f"bucket {config.bucket!r} at {config.endpoint_url}, served by {served}",
            public_url=config.public_url,
            cache_control=config.cache_control,
            media_cache_control=config.media_cache_control,
            check_exists=config.check_exists,
            changes=changes,
        )
    data_directory = DataDirectory(
        config.data_dir, durable=config.durable, observer=observer, group_commit=config.group_commit
    )
    return disk(data_directory, rules, min_free_bytes=config.min_free_bytes, changes=changes)


def open_object_store(config: R2Config, observer: CallObserver = unobserved) -> "ObjectStore":
    """Open the bucket as an object store, without the rules for images."""
    from stillroom.store.s3.client import BucketClient
    from stillroom.store.s3.signing import Signer
    from stillroom.store.s3.store import S3ObjectStore

    address, secret = config.address, config.secret_access_key
    signer = Signer(address.host, config.access_key_id, secret, config.region, config.session_token)
    return S3ObjectStore(BucketClient(address, signer, observer=observer))
