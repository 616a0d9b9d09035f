"""Fields of the settings. Their docstrings are also in docs/reference/settings.md."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasGenerator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stillroom.store.address import Addressing
from stillroom.store.auth.keys import Algorithm
from stillroom.variables import PREFIXES

MIB: Final = 1024**2

# Origin as browsers send it: lower case, without a slash at the end.
_ORIGIN: Final = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_VISIBLE_TEXT: Final = re.compile(r"[\x21-\x7e]*")


def variable_of(field: str) -> str:
    """Return a setting's environment variable. `field` is the name of the field or variable."""
    name = field.upper()
    return name if name.startswith(PREFIXES) else f"STILLROOM_{name}"


def parsed_by(parse: Callable[[str], object]) -> BeforeValidator:
    """Return a validator that parses text. Values of other types remain unchanged."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _check_origins(value: list[str]) -> list[str]:
    for origin in value:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError("must be * or origins such as https://app.example.com")
    return value


def _check_visible(value: str | SecretStr | None) -> str | SecretStr | None:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value or ""
    if not _VISIBLE_TEXT.fullmatch(text):
        raise ValueError("must be ASCII without blanks")
    return value


def _check_url(value: str) -> str:
    if not _VISIBLE_TEXT.fullmatch(value):
        raise ValueError("must be ASCII without blanks (write an international name as xn--…)")
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
        raise ValueError("must not contain a query (?…) or a fragment (#…)")
    return value.rstrip("/")


def _check_secure_url(value: str) -> str:
    parts = urlsplit(value)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if value and (parts.scheme != "https" and not (parts.scheme == "http" and here)):
        raise ValueError(
            "must begin with https:// (or http://127.0.0.1): otherwise an attacker could read or "
            "change what is transferred, such as keys and tokens"
        )
    if value and (not parts.hostname or parts.username is not None or parts.port == 0):
        raise ValueError("must be a URL without a password, such as https://id.example.com/jwks")
    return value


SPLIT: Final = parsed_by(lambda text: [entry.strip() for entry in text.split(",") if entry.strip()])
_LOWER: Final = parsed_by(str.lower)
STRIPPED: Final = parsed_by(lambda text: re.sub(" +", " ", text.strip()))
"""Strips the line feed at the end of secret files, and collapses spaces for signatures."""

HEADER: Final = Field(pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$")
VISIBLE: Final = AfterValidator(_check_visible)
URL: Final = AfterValidator(_check_url)
SECURE_URL: Final = AfterValidator(_check_secure_url)


class Fields(BaseSettings):
    """Settings of the core. Each value is validated without the others."""

    model_config = SettingsConfigDict(
        alias_generator=AliasGenerator(validation_alias=variable_of),
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        defer_build=True,  # only the classes that are instantiated are built
    )

    data_dir: Path = Path("stillroom-data")
    """Folder for images, secret, caches and the SQLite database; created if missing."""

    host: str = "127.0.0.1"
    """Address to listen on. Only a reverse proxy should reach it:
    docs/running.md#behind-a-proxy."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 selects a free port."""

    workers: int = Field(default=1, ge=1, le=256)
    """Number of server processes. Each uses one core at most."""

    public_base_url: Annotated[str, URL] = ""
    """Base of public URLs; `http://127.0.0.1:PORT` by default. Never taken from a Host header."""

    jwt_algorithm: Algorithm = "HS256"
    """Algorithm of token signatures. Never taken from a token."""

    jwt_public_key_file: Path | None = None
    """PEM file with the issuer's public key, for RS256, ES256 and EdDSA.
    docs/running.md#who-signs-the-tokens lists the supported keys."""

    jwt_jwks_url: Annotated[str, SECURE_URL] = ""
    """The issuer's JWKS URL, instead of a key file. Needs `STILLROOM_JWT_AUDIENCE`."""

    jwt_secret: SecretStr | None = None
    """Secret that signs tokens (HS256) and URLs; at least 32 bytes. By default, the first start
    generates a secret in the data directory. Several machines need the same secret."""

    jwt_previous_secrets: Annotated[list[SecretStr], NoDecode, SPLIT] = []
    """Secrets that are still accepted: docs/running.md#changing-the-secret."""

    jwt_audience: str | None = None
    """`aud` claim that tokens must have, if set. Required with a JWKS URL."""

    jwt_issuer: str | None = None
    """`iss` claim that tokens must have, if set."""

    max_upload_bytes: int = Field(default=100 * MIB, ge=1)
    """Maximum upload size in bytes. A larger upload gets 413 as soon as it exceeds the limit."""

    min_free_bytes: int = Field(default=256 * MIB, ge=0)
    """Free disk space to keep, in bytes. A save that would leave less gets 507. This is checked
    with the announced length before the first byte, and again for every 16 MiB."""

    require_image: bool = False
    """Accept only images, judged by their content; other files get 415."""

    durability: Literal["full", "none"] = "full"
    """`none` never waits until data is on the disk (no fsync). A power cut may then lose saved
    images: use it only for temporary data."""

    group_commit: Literal["auto", "on", "off"] = "auto"
    """If a flush to the disk takes a millisecond or more, `auto` saves more images at once and, on
    XFS with Linux 5.17 or newer, lets them share flushes. `on` always does both, also on ext4.
    `off` does neither. See docs/performance.md#making-it-faster."""

    sweep_interval_seconds: float = Field(default=30, ge=0)
    """Seconds between runs of the background jobs, such as due deletions, in each process. With 0,
    no jobs run, and `stillroom media sweep` executes due deletions. See
    docs/media.md#what-is-deleted-and-when."""

    drain_seconds: int = Field(default=30, ge=0)
    """Seconds that a shutdown waits for requests in progress."""

    hang_seconds: int = Field(default=30, ge=0)
    """Seconds without a response from a worker process until it is killed and replaced; 0: never.
    Time in which the worker is stopped, or waits for a disk, does not count. See
    docs/running.md#a-worker-that-hangs."""

    public_read: bool = False
    """Allow GET and HEAD of images by path without a token. All other requests need a token. See
    docs/api.md#public-images."""

    cors_origins: Annotated[list[str], NoDecode, SPLIT, AfterValidator(_check_origins)] = []
    """Origins whose pages may call the API by script: `https://app.example.com`, or `*` for all."""

    log_format: Literal["console", "json"] = "console"
    """`console` is text for people; `json` is one object per line: docs/observing.md#the-log."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], _LOWER] = "info"
    """Minimum severity of log lines. The lines of `STILLROOM_ACCESS_LOG` do not depend on it."""

    access_log: bool = False
    """Log one line per request. Failures are always logged, and requests are always counted."""

    r2_endpoint_url: Annotated[str, STRIPPED, URL] = ""
    """`https://<account>.r2.cloudflarestorage.com`, without the bucket: docs/r2.md. This setting
    and the access key id select the bucket backend. If only one of them is set, the server does not
    start."""

    r2_access_key_id: Annotated[str, STRIPPED, VISIBLE] = ""
    """Access key id of the bucket's API token."""

    r2_secret_access_key: Annotated[SecretStr, STRIPPED, VISIBLE] = SecretStr("")
    """Secret access key of the bucket's API token."""

    r2_bucket_name: Annotated[str, STRIPPED, VISIBLE] = ""
    """Name of the bucket, which must exist."""

    r2_region: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$"), STRIPPED] = "auto"
    """Region for request signatures: `auto` for R2. Amazon S3 needs the bucket's own region."""

    r2_session_token: Annotated[SecretStr | None, STRIPPED, VISIBLE] = None
    """Session token of temporary credentials, read at the start. Restart before they expire."""

    r2_addressing: Annotated[Addressing, STRIPPED] = "path"
    """`path` is `https://endpoint/bucket/key`; `virtual` is `https://bucket.endpoint/key`."""

    r2_public_url: Annotated[str, STRIPPED, URL] = ""
    """Base URL of the CDN. Without it, GET redirects to a bucket URL valid for five minutes."""

    r2_cache_control: Annotated[str, HEADER, STRIPPED] = "public, max-age=300"
    """`Cache-Control` header that is stored with every image, for the CDN and browsers."""

    r2_media_cache_control: Annotated[str, HEADER, STRIPPED] = "public, max-age=86400, immutable"
    """`Cache-Control` header for files of the media library, which never change:
    docs/r2.md#after-a-deletion. `stillroom media recache` writes it to stored files."""

    r2_check_exists: bool = True
    """Check that an image exists before redirecting. If `false`, the CDN sends and caches 404s."""
