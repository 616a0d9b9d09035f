"""Fields of the settings: types, defaults, bounds, meanings and validation.

The docstring of a field is its description in docs/reference/settings.md.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stillroom.auth.keys import Algorithm
from stillroom.durations import parse_duration
from stillroom.storage.address import Addressing

MIB: Final = 1024**2

_ORIGIN: Final = re.compile(
    r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?"
)
"""Origin as browsers send it: lower case, without a slash at the end."""

_DATABASE_URL: Final = re.compile(r"postgres(ql)?(\+psycopg)?://")

_MAX_TTL: Final = timedelta(days=99_999)

_VISIBLE_TEXT: Final = re.compile(r"[\x21-\x7e]*")


class Fields(BaseSettings):
    """Fields of the settings. Each value is validated on its own."""

    model_config = SettingsConfigDict(
        env_prefix="STILLROOM_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    data_dir: Path = Path("stillroom-data")
    """Folder for images, secret, caches and the SQLite database; created if missing."""

    host: str = "127.0.0.1"
    """Address to listen on. Let only a proxy reach it: docs/running.md#behind-a-proxy."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""

    workers: int = Field(default=1, ge=1, le=256)
    """Number of server processes. Each uses one core at most."""

    public_base_url: str = ""
    """Base of public URLs; `http://127.0.0.1:PORT` by default. Never from a Host header."""

    jwt_algorithm: Algorithm = "HS256"
    """Algorithm of token signatures. Never taken from a token."""

    jwt_public_key_file: Path | None = None
    """PEM file with the issuer's public key, for RS256, ES256 and EdDSA.

    docs/running.md#who-signs-the-tokens says which keys are taken.
    """

    jwt_jwks_url: str = ""
    """The issuer's JWKS URL, instead of a key file. Needs `STILLROOM_JWT_AUDIENCE`."""

    jwt_secret: SecretStr | None = None
    """At least 32 bytes; signs tokens (HS256) and URLs. Without it, the first start makes one.

    It is made in the data directory. Several machines need the same one.
    """

    jwt_previous_secrets: Annotated[list[SecretStr], NoDecode] = []
    """Secrets that are still accepted: docs/running.md#changing-the-secret."""

    jwt_audience: str | None = None
    """`aud` that tokens must have, if set. Required with a JWKS URL."""

    jwt_issuer: str | None = None
    """`iss` that tokens must have, if set."""

    max_upload_bytes: int = Field(default=100 * MIB, ge=1)
    """Largest upload. A larger one gets 413 as soon as the limit is passed, not at the end."""

    min_free_bytes: int = Field(default=256 * MIB, ge=0)
    """Free disk space to keep. A save that would leave less gets 507.

    Checked by the announced length before the first byte, and again with every 16 MiB.
    """

    require_image: bool = False
    """Accept only images, judged by their content; other files get 415."""

    durability: Literal["full", "none"] = "full"
    """`none` skips every sync: for scratch data only. A power cut may then cost saved images."""

    list_cache_bytes: int = Field(default=64 * MIB, ge=0)
    """Memory in each process for names in large folders; 0 reads the folder for every page.

    docs/running.md#listings-of-large-folders.
    """

    response_cache_bytes: int = Field(default=64 * MIB, ge=0)
    """Memory in each process for images of up to 64 KiB that are read again; 0 keeps none."""

    derived_cache_bytes: int = Field(default=1024 * MIB, ge=0)
    """Disk space for cached thumbnails (docs/api.md#thumbnails); 0 keeps none.

    Beyond it, the least recently used ones go first.
    """

    derived_processes: int = Field(default=2, ge=1, le=64)
    """Images decoded at once by each server process, each in a process of its own.

    Such a process takes 30 MiB and ends after an idle minute.
    """

    derived_max_pixels: int = Field(default=100_000_000, ge=1, le=1_000_000_000)
    """Larger images are not decoded, 415.

    Each pixel takes 4 to 8 bytes of memory in each decoding process, 16 of a WebP.
    """

    database_url: SecretStr | None = None
    """PostgreSQL for the media library's rows: `postgresql://user:password@host/name`.

    Without it, they are in SQLite in the data directory: docs/media.md#where-the-rows-are.
    """

    deletion_grace_seconds: int = Field(default=3600, ge=0)
    """Time that a relocated source, or a deleted resource, stays before its bytes are deleted."""

    sweep_interval_seconds: float = Field(default=30, ge=0)
    """Time between sweeps in each process; 0 leaves them to `stillroom media sweep`.

    docs/media.md#what-is-deleted-and-when.
    """

    compute_ttl: timedelta | None = None
    """Age after which compute results that were not ingested are deleted; off without it.

    docs/media.md#results-that-expire.
    """

    retention_file: Path | None = None
    """Rules by which compute results expire; by default `retention.toml` in the data directory.

    docs/retention.md. That need not be there.
    """

    max_connections: int = Field(default=4096, ge=1)
    """Connections at once, in each process; further ones get 503.

    Each takes 4 descriptors, all else 256: with a hard limit (`ulimit -Hn`) below 16640 the bound
    is lower, and the log says so at the start.
    """

    max_head_bytes: int = Field(default=32 * 1024, ge=1024)
    """Largest head of a request (all its header fields); a larger one gets 431."""

    max_header_fields: int = Field(default=100, ge=10)
    """Most header fields of a request; more get 431."""

    max_target_bytes: int = Field(default=8 * 1024, ge=256)
    """Longest target of a request (path and query); a longer one gets 414."""

    head_timeout_seconds: float = Field(default=10, gt=0)
    """Time for a connection's first byte, and for a head once it has begun; then 408."""

    min_body_bytes_per_second: int = Field(default=1024, ge=0)
    """Slowest upload. A body that is slower for 30 seconds gets 408."""

    idle_timeout_seconds: int = Field(default=65, ge=1)
    """Time that a connection stays open between requests. Keep it above a proxy's in front."""

    write_timeout_seconds: float = Field(default=60, gt=0)
    """Time limit for a client that reads nothing of a response; then the connection is closed."""

    drain_seconds: int = Field(default=30, ge=0)
    """Time that a shutdown waits for requests in progress."""

    hang_seconds: int = Field(default=30, ge=0)
    """A worker that has answered nothing for so long is killed and replaced; 0 turns that off.

    Time in which the worker is stopped, or waits for a disk, does not count.
    docs/running.md#a-worker-that-hangs.
    """

    public_read: bool = False
    """Read images (GET, HEAD) by path without a token; everything else still needs one.

    docs/api.md#public-images.
    """

    cors_origins: Annotated[list[str], NoDecode] = []
    """Origins whose pages may call the API by script: `https://app.example.com`, or `*` for all."""

    gallery: bool = True
    """Serve the gallery at `/`: docs/gallery.md. It needs a token for all that it shows."""

    fast_path: bool = True
    """Handle simple requests without a web framework:
    docs/adr/0009-simple-requests-take-a-fast-path.md.

    The answers are the same. The former name, `STILLROOM_SHORT_ROAD`, is still read.
    """

    sendfile: Literal["off", "x-accel"] = "off"
    """`x-accel`: nginx sends large images itself, docs/deploying.md#bytes-from-nginx."""

    sendfile_key: SecretStr | None = None
    """Key that nginx sends in `X-Stillroom-Sendfile`. Required with `x-accel`.

    At least 16 letters and digits.
    """

    log_format: Literal["console", "json"] = "console"
    """`console` is text for people; `json` has one object a line: docs/observing.md#the-log."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe lines that are logged; those of `STILLROOM_ACCESS_LOG` are in any case."""

    access_log: bool = False
    """Log one line a request. Failures are logged, and requests counted, in any case."""

    r2_endpoint_url: str = Field(default="", validation_alias="R2_ENDPOINT_URL")
    """`https://<account>.r2.cloudflarestorage.com`, without the bucket: docs/r2.md.

    With the access key id it selects the bucket; one of the two alone stops the start.
    """

    r2_access_key_id: str = Field(default="", validation_alias="R2_ACCESS_KEY_ID")
    """Access key id of the bucket's API token."""

    r2_secret_access_key: SecretStr = Field(
        default=SecretStr(""), validation_alias="R2_SECRET_ACCESS_KEY"
    )
    """Secret access key of the bucket's API token."""

    r2_bucket_name: str = Field(default="", validation_alias="R2_BUCKET_NAME")
    """Name of the bucket, which must exist."""

    r2_region: str = Field(
        default="auto", validation_alias="R2_REGION", pattern=r"^[A-Za-z0-9._-]{1,64}$"
    )
    """Region that signatures are for: R2's is `auto`; Amazon S3 takes only the bucket's own."""

    r2_session_token: SecretStr | None = Field(default=None, validation_alias="R2_SESSION_TOKEN")
    """Session token of temporary credentials. Read once: restart before they expire."""

    r2_addressing: Addressing = Field(default="path", validation_alias="R2_ADDRESSING")
    """`path` is `https://endpoint/bucket/key`; `virtual` is `https://bucket.endpoint/key`."""

    r2_public_url: str = Field(default="", validation_alias="R2_PUBLIC_URL")
    """Base URL of the CDN. Without it, a GET redirects to a URL that works for five minutes."""

    r2_cache_control: str = Field(
        default="public, max-age=300",
        validation_alias="R2_CACHE_CONTROL",
        pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
    )
    """`Cache-Control` of every image: how long the CDN and browsers keep it without asking."""

    r2_check_exists: bool = Field(default=True, validation_alias="R2_CHECK_EXISTS")
    """Ask the bucket before redirecting. `false` never asks, and the CDN caches its own 404s."""

    r2_image_transformations: bool = Field(
        default=False, validation_alias="R2_IMAGE_TRANSFORMATIONS"
    )
    """Let Cloudflare make thumbnails: docs/r2.md#thumbnails."""

    @field_validator("jwt_previous_secrets", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [entry.strip() for entry in value.split(",") if entry.strip()]
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("compute_ttl", mode="before")
    @classmethod
    def _check_compute_ttl(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value == "off":
            return None
        ttl = parse_duration(value)
        if not ttl or ttl > _MAX_TTL:
            raise ValueError("must be a duration such as 90s, 15m, 12h or 30d, or off")
        return ttl

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not _DATABASE_URL.match(value.get_secret_value()):
            raise ValueError("must be a URL such as postgresql://user:password@host/name")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("must be origins such as https://app.example.com, or *")
        return value

    @field_validator(
        "r2_endpoint_url",
        "r2_access_key_id",
        "r2_secret_access_key",
        "r2_bucket_name",
        "r2_region",
        "r2_session_token",
        "r2_addressing",
        "r2_public_url",
        "r2_cache_control",
        mode="before",
    )
    @classmethod
    def _strip(cls, value: object) -> object:
        """Strip the line feed at the end of secret files, and collapse spaces for signatures."""
        return re.sub(" +", " ", value.strip()) if isinstance(value, str) else value

    @field_validator(
        "r2_access_key_id", "r2_secret_access_key", "r2_bucket_name", "r2_session_token"
    )
    @classmethod
    def _check_visible(cls, value: str | SecretStr | None) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value or ""
        if not _VISIBLE_TEXT.fullmatch(text):
            raise ValueError("must be ASCII without blanks")
        return value

    @field_validator("public_base_url", "r2_public_url", "r2_endpoint_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not _VISIBLE_TEXT.fullmatch(value):
            raise ValueError("must be ASCII without blanks (an international name as xn--…)")
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:  # brackets that do not match, or an impossible port
            raise ValueError("must be a URL with a port from 1 to 65535") from None
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be a URL such as https://images.example.com")
        if parts.username is not None or port == 0:
            raise ValueError("must not contain a user name, and its port must be 1 to 65535")
        if parts.query or parts.fragment:
            raise ValueError("must end with the host or a path")
        return value.rstrip("/")

    @field_validator("jwt_jwks_url")
    @classmethod
    def _check_jwks_url(cls, value: str) -> str:
        parts = urlsplit(value)
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if value and (parts.scheme != "https" and not (parts.scheme == "http" and here)):
            raise ValueError(
                "must begin with https:// (or http://127.0.0.1): otherwise an attacker who "
                "changes the keys in transit could sign any token"
            )
        if value and (not parts.hostname or parts.username is not None or parts.port == 0):
            raise ValueError(
                "must be a URL without a password, such as https://id.example.com/jwks"
            )
        return value
