"""Settings: read once, from the environment, checked before anything starts."""

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from stillroom.auth.keys import Algorithm, KeySource, PublicKeyFile, SharedSecrets
from stillroom.auth.secret import load_or_make_secret, load_secret
from stillroom.derived.images import DerivedConfig
from stillroom.errors import ConfigurationError
from stillroom.media.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.paths import COMPUTE_PREFIX
from stillroom.storage.choose import DiskConfig, R2Config
from stillroom.storage.values import SaveRules
from stillroom.variables import PREFIXES, unread

MIB: Final = 1024**2

S = TypeVar("S", bound="Settings")

_ORIGIN: Final = re.compile(
    r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?"
)
"""As browsers write it: lower case, no slash at the end."""

_DATABASE_URL: Final = re.compile(r"postgres(ql)?(\+psycopg)?://")

_DURATION: Final = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_VISIBLE_TEXT: Final = re.compile(r"[\x21-\x7e]*")

_FORMER: Final = {"STILLROOM_SHORT_ROAD": "fast_path"}
"""Variables by names of earlier versions, and the fields that they set."""

_OF_COMMANDS: Final = ("STILLROOM_URL", "STILLROOM_TOKEN")
"""What `stillroom put` and others read; they may stand in the same environment."""

_LOCAL_TOKENS: Final = (
    "the bucket is shared and the token secret is this machine's own: "
    "set STILLROOM_JWT_SECRET to the same on all machines"
)

_LOCAL_ROWS: Final = (
    "the bucket is shared and the media library's rows are this machine's own: "
    "set STILLROOM_DATABASE_URL to the same PostgreSQL on all machines"
)


class Settings(BaseSettings):
    """Read from `STILLROOM_*`; an unusable value stops the start with one sentence."""

    model_config = SettingsConfigDict(
        env_prefix="STILLROOM_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    _unread: list[str] = PrivateAttr(default_factory=list)

    data_dir: Path = Path("stillroom-data")
    """Everything lies below it; made if missing."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)

    public_base_url: str = ""
    """What public URLs begin with; `http://127.0.0.1:PORT` by default. Never from a Host header."""

    jwt_algorithm: Algorithm = "HS256"
    """What tokens are signed with. Never taken from a token."""

    jwt_public_key_file: Path | None = None
    """PEM; for RS256, ES256 and EdDSA, whose tokens another issuer signs."""

    jwt_jwks_url: str = ""
    """The issuer's JWKS URL; instead of a file. Needs `jwt_audience`."""

    jwt_secret: SecretStr | None = None
    """At least 32 bytes. Without it one is made in the data directory."""

    jwt_previous_secrets: Annotated[list[SecretStr], NoDecode] = []
    """Still accepted, separated by commas, so that a secret can be changed without a gap."""

    jwt_audience: str | None = None
    jwt_issuer: str | None = None

    max_upload_bytes: int = Field(default=100 * MIB, ge=1)
    """Larger images get 413 as soon as the limit is passed, not at the end."""

    min_free_bytes: int = Field(default=256 * MIB, ge=0)
    """Saves that would leave less free room on the disk get 507."""

    require_image: bool = False
    """Refuse what is not an image by its content, 415."""

    durability: Literal["full", "none"] = "full"
    """`none` skips every sync: for scratch data only."""

    list_cache_bytes: int = Field(default=64 * MIB, ge=0)
    """In each process, for the names in large folders; 0 reads them anew for every page."""

    derived_cache_bytes: int = Field(default=1024 * MIB, ge=0)
    """On the disk, for pictures that were made of images; 0 makes them anew for each request."""

    derived_processes: int = Field(default=2, ge=1, le=64)
    """Images decoded at once, by each server process; they run while there is work."""

    derived_max_pixels: int = Field(default=100_000_000, ge=1, le=1_000_000_000)
    """Larger images are not decoded, 415. Each takes 4 to 16 bytes of memory."""

    database_url: SecretStr | None = None
    """PostgreSQL for the media library's rows; without it SQLite, in the data directory."""

    deletion_grace_seconds: int = Field(default=3600, ge=0)
    """How long the source of a relocation, or a deleted resource, can still be had back."""

    sweep_interval_seconds: float = Field(default=30, ge=0)
    """How often each process looks for deletions that are due; 0 leaves that to a command."""

    compute_ttl: timedelta | None = None
    """How old a compute result may become that is not ingested: `12h`, `30d`; off without it."""

    max_connections: int = Field(default=4096, ge=1)
    """At once, in each process; more get 503."""

    max_head_bytes: int = Field(default=32 * 1024, ge=1024)
    max_header_fields: int = Field(default=100, ge=10)
    max_target_bytes: int = Field(default=8 * 1024, ge=256)
    """More in the head of a request is 431, in its target 414."""

    head_timeout_seconds: float = Field(default=10, gt=0)
    """For a connection's first byte, and for a head once it has begun: then 408."""

    min_body_bytes_per_second: int = Field(default=1024, ge=0)
    """A body that is slower for 30 s gets 408."""

    idle_timeout_seconds: int = Field(default=65, ge=1)
    """Between requests. Keep it above the one of a proxy in front."""

    write_timeout_seconds: float = Field(default=60, gt=0)
    """An answer of which the client takes nothing for so long is given up."""

    drain_seconds: int = Field(default=30, ge=0)
    """How long a stop waits for answers under way."""

    public_read: bool = False
    """An image can be read (GET, HEAD) without a token by its path; all else still needs one."""

    cors_origins: Annotated[list[str], NoDecode] = []
    """Whose pages may read answers by script, separated by commas; `*` is everybody's."""

    gallery: bool = True
    """Show the page for people at `/`; it needs a token for all that it shows."""

    fast_path: bool = True
    """Answer simple requests before any framework is asked; see docs/adr/0009."""

    log_format: Literal["console", "json"] = "console"
    access_log: bool = False
    """One line a request. Failures are logged, and requests counted, in any case."""

    r2_endpoint_url: str = Field(default="", validation_alias="R2_ENDPOINT_URL")
    """`https://<account>.r2.cloudflarestorage.com`; with it images go to a bucket: docs/r2.md."""

    r2_access_key_id: str = Field(default="", validation_alias="R2_ACCESS_KEY_ID")
    r2_secret_access_key: SecretStr = Field(
        default=SecretStr(""), validation_alias="R2_SECRET_ACCESS_KEY"
    )
    r2_bucket_name: str = Field(default="", validation_alias="R2_BUCKET_NAME")

    r2_public_url: str = Field(default="", validation_alias="R2_PUBLIC_URL")
    """The CDN's base. Without it a GET redirects to a presigned URL that works for minutes."""

    r2_cache_control: str = Field(
        default="public, max-age=300",
        validation_alias="R2_CACHE_CONTROL",
        pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
    )
    """Stored with every image: for how long the CDN and browsers keep it without asking."""

    r2_check_exists: bool = Field(default=True, validation_alias="R2_CHECK_EXISTS")
    """False redirects blindly: no request to the bucket, and the CDN remembers its 404s."""

    r2_image_transformations: bool = Field(
        default=False, validation_alias="R2_IMAGE_TRANSFORMATIONS"
    )
    """Leave derived images to Cloudflare: the zone of `R2_PUBLIC_URL` has transformations."""

    @field_validator("jwt_previous_secrets", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [entry.strip() for entry in value.split(",") if entry.strip()]
        return value

    @field_validator("compute_ttl", mode="before")
    @classmethod
    def _check_compute_ttl(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value == "off":
            return None
        found = _DURATION.fullmatch(value)
        if found is None:
            raise ValueError("must be a duration such as 90s, 15m, 12h or 30d, or off")
        return timedelta(**{_UNITS[found[2]]: int(found[1])})

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
        "r2_public_url",
        "r2_cache_control",
        mode="before",
    )
    @classmethod
    def _strip(cls, value: object) -> object:
        """Files that hold a secret often end in a line feed; signatures count single blanks."""
        return re.sub(" +", " ", value.strip()) if isinstance(value, str) else value

    @field_validator("r2_access_key_id", "r2_secret_access_key", "r2_bucket_name")
    @classmethod
    def _check_visible(cls, value: str | SecretStr) -> str | SecretStr:
        text = value if isinstance(value, str) else value.get_secret_value()
        if not _VISIBLE_TEXT.fullmatch(text):
            raise ValueError("must be ASCII without blanks")
        return value

    @field_validator("public_base_url", "r2_public_url", "r2_endpoint_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not _VISIBLE_TEXT.fullmatch(value):
            raise ValueError("must be ASCII without blanks (an international name as xn--…)")
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be a URL such as https://images.example.com")
        if parts.username is not None or parts.port == 0:  # an odd port raises, too
            raise ValueError("must have no user in it, and a port from 1 to 65535")
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
                "must begin with https:// (or http://127.0.0.1): who can change the keys "
                "on their way could sign any token"
            )
        if value and (not parts.hostname or parts.username is not None or parts.port == 0):
            raise ValueError(
                "must be a URL without a password, such as https://id.example.com/jwks"
            )
        return value

    @classmethod
    def read(cls, **flags: object) -> Self:
        """Read the environment; `flags` that are not None win over it.

        What no variable says can be in a file of its name, in the folder that systemd (or a
        container's configuration) names in CREDENTIALS_DIRECTORY: docs/adr/0020.

        Raises:
            ConfigurationError: one sentence that names each setting at fault; or a variable is
                so near to one that it must be meant.
        """
        names = [name for name, value in os.environ.items() if value]
        for former, now in _FORMER.items():
            if os.environ.get(former):
                flags = {now: os.environ.get(_variable(now)) or os.environ[former], **flags}
        folder = _credentials()
        with contextlib.suppress(OSError):  # what cannot be read is said below
            names += os.listdir(folder) if folder else []
        return cls._read(names, flags)

    @classmethod
    def _read(cls, names: Iterable[str], flags: Mapping[str, object]) -> Self:
        fields = [str(one.validation_alias or name) for name, one in cls.model_fields.items()]
        known = [*map(_variable, fields), *_OF_COMMANDS, *_FORMER]
        passed_over = unread({name.upper() for name in names}, known)
        given = {name: value for name, value in flags.items() if value is not None}
        given["_secrets_dir"] = _credentials()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # a folder in a credential's place
                settings = cls(**given)  # type: ignore[arg-type]  # pydantic checks what mypy cannot
        except (OSError, SettingsError, UserWarning) as error:
            raise ConfigurationError(
                f"a credential in {_credentials()} cannot be read ({error}): each must be a file "
                "with text that this user may read"
            ) from error
        except ValidationError as error:
            faults = "; ".join(
                f"{_variable(str(fault['loc'][0]))}: {fault['msg']}"
                for fault in error.errors(include_input=False, include_url=False)
            )
            raise ConfigurationError(faults) from error
        settings._unread = passed_over
        return settings

    @classmethod
    def read_file(cls, file: Path) -> Self:
        """Read `NAME=value` lines, as systemd and Docker do, and nothing of the environment.

        Raises:
            ConfigurationError: as `read`; or the file cannot be read.
        """
        try:
            found = dotenv_values(file, interpolate=False)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{str(file)!r} cannot be read: {error}") from error
        lines = {name: value for name, value in found.items() if value}
        given = {
            name if name.startswith("R2_") else _FORMER.get(name, _field(name)): value
            for name, value in lines.items()
            if name.startswith(PREFIXES)
        }
        if not given:  # with nothing set it would be a new store in the folder at hand
            raise ConfigurationError(f"{str(file)!r} has no line that sets STILLROOM_… or R2_…")
        try:
            return _without_environment(cls)._read(lines, given)  # noqa: SLF001  (a class of this one)
        except ConfigurationError as error:
            raise ConfigurationError(f"in {str(file)!r}: {error}") from error

    @classmethod
    def of_values(cls, **values: object) -> Self:
        """Settings with these fields and nothing of the environment.

        Raises:
            ConfigurationError: one sentence that names each setting at fault.
        """
        return _without_environment(cls)._read((), values)  # noqa: SLF001  (the same)

    @property
    def images_url(self) -> str:
        """What public image URLs begin with: the CDN's, where there is one, else our own."""
        if self.r2_public_url and self._has_bucket:
            return f"{self.r2_public_url}/{COMPUTE_PREFIX.rstrip('/')}"
        return self.api_images_url

    @property
    def api_images_url(self) -> str:
        """What image URLs begin with that this server answers itself."""
        base = self.public_base_url or f"http://127.0.0.1:{self.port}"
        return f"{base}/api/v1/storage/images"

    @property
    def secret_file(self) -> Path:
        """Where the secret is kept if none is configured."""
        return self.data_dir / ".stillroom" / "secret"

    def signing_secrets(self) -> tuple[list[str], bool]:
        """The secrets that we sign with, and whether one was made just now.

        The current one comes first; what the others have signed is still accepted.

        Raises:
            ConfigurationError: none is configured and none can be made.
        """
        made = False
        if self.jwt_secret is None:
            current, made = load_or_make_secret(self.secret_file)
        else:
            current = self.jwt_secret.get_secret_value()
        return [current, *(old.get_secret_value() for old in self.jwt_previous_secrets)], made

    def minting_secret(self) -> str:
        """The secret that new tokens are signed with.

        Raises:
            ConfigurationError: tokens are signed elsewhere, or the secret cannot be used.
            FileNotFoundError: there is no secret, since no server has made one here.
        """
        if self.jwt_algorithm != "HS256":
            raise ConfigurationError(
                f"STILLROOM_JWT_ALGORITHM is {self.jwt_algorithm}, so tokens are signed with a "
                "private key that is not here: get one from the issuer who holds it"
            )
        if self.jwt_secret is None:
            return load_secret(self.secret_file)
        return self.jwt_secret.get_secret_value()

    def token_keys(self) -> KeySource:
        """What the signatures of tokens are checked with.

        Raises:
            ConfigurationError: the settings contradict each other, or a key cannot be used.
        """
        if self.jwt_algorithm == "HS256":
            for variable, value in (
                ("STILLROOM_JWT_PUBLIC_KEY_FILE", self.jwt_public_key_file),
                ("STILLROOM_JWT_JWKS_URL", self.jwt_jwks_url),
            ):
                if value:
                    raise ConfigurationError(
                        f"{variable} is set, but HS256 has only secrets: set "
                        "STILLROOM_JWT_ALGORITHM to RS256, ES256 or EdDSA, whichever the key is for"
                    )
            return SharedSecrets(self.signing_secrets()[0])
        if self.jwt_public_key_file is None and not self.jwt_jwks_url:
            raise ConfigurationError(
                f"STILLROOM_JWT_ALGORITHM={self.jwt_algorithm} needs a public key: "
                "set STILLROOM_JWT_PUBLIC_KEY_FILE or STILLROOM_JWT_JWKS_URL"
            )
        if self.jwt_public_key_file is None:
            return self._published_keys(self.jwt_algorithm)
        if self.jwt_jwks_url:
            raise ConfigurationError(
                "STILLROOM_JWT_JWKS_URL and STILLROOM_JWT_PUBLIC_KEY_FILE are both set: unset one"
            )
        return PublicKeyFile(self.jwt_public_key_file, self.jwt_algorithm)

    def _published_keys(self, algorithm: Algorithm) -> KeySource:
        if not self.jwt_audience:
            raise ConfigurationError(
                "STILLROOM_JWT_JWKS_URL needs STILLROOM_JWT_AUDIENCE: set it to the `aud` of the "
                "tokens for this server, since the provider signs tokens for other services too"
            )
        from stillroom.auth.jwks import PublishedKeys  # only who needs it pays for its client

        return PublishedKeys(self.jwt_jwks_url, algorithm)

    @property
    def storage(self) -> DiskConfig | R2Config:
        """Which backend, and how.

        Raises:
            ConfigurationError: the bucket is configured by halves. Falling back to the
                disk would scatter a user's images over two places.
        """
        if not self._has_bucket:
            return DiskConfig(
                data_dir=self.data_dir,
                min_free_bytes=self.min_free_bytes,
                durable=self.durability == "full",
                list_cache_bytes=self.list_cache_bytes,
            )
        secret = self.r2_secret_access_key.get_secret_value()
        needed = {
            "R2_ENDPOINT_URL": self.r2_endpoint_url,
            "R2_ACCESS_KEY_ID": self.r2_access_key_id,
            "R2_SECRET_ACCESS_KEY": secret,
            "R2_BUCKET_NAME": self.r2_bucket_name,
        }
        if missing := [name for name, value in needed.items() if not value]:
            raise ConfigurationError(
                f"{' and '.join(missing)} must be set too, since other R2_ variables are: "
                "set all of R2_ENDPOINT_URL, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and "
                "R2_BUCKET_NAME for a bucket, or none of the first two for the disk"
            )
        if urlsplit(self.r2_endpoint_url).path == f"/{self.r2_bucket_name}":
            raise ConfigurationError(
                "R2_ENDPOINT_URL must not end with the bucket: R2_BUCKET_NAME names it"
            )
        return R2Config(
            endpoint_url=self.r2_endpoint_url,
            access_key_id=self.r2_access_key_id,
            secret_access_key=secret,
            bucket=self.r2_bucket_name,
            public_url=self.r2_public_url or None,
            cache_control=self.r2_cache_control,
            check_exists=self.r2_check_exists,
        )

    @property
    def derived(self) -> DerivedConfig:
        """How pictures are made of images, and where they are kept.

        Raises:
            ConfigurationError: a CDN is to make them, and there is none.
        """
        transforms = self.r2_image_transformations and self._has_bucket
        if transforms and not self.r2_public_url:
            raise ConfigurationError(
                "R2_IMAGE_TRANSFORMATIONS is set, but no CDN that could make them: "
                "set R2_PUBLIC_URL to a domain of the bucket at Cloudflare"
            )
        return DerivedConfig(
            folder=self.data_dir / ".stillroom" / "derived",
            cache_bytes=self.derived_cache_bytes,
            min_free_bytes=self.min_free_bytes,
            durable=self.durability == "full",
            processes=self.derived_processes,
            max_pixels=self.derived_max_pixels,
            transformations_url=self.r2_public_url if transforms else None,
        )

    @property
    def image_origins(self) -> list[str]:
        """Whose images the page shows beside our own: where a GET of one may redirect to."""
        if not self._has_bucket:
            return []
        parts = urlsplit(self.r2_public_url or self.r2_endpoint_url)
        return [f"{parts.scheme}://{parts.netloc}"]

    @property
    def deletion_grace(self) -> timedelta:
        """How long a mark waits before its deletion is due."""
        return timedelta(seconds=self.deletion_grace_seconds)

    @property
    def rows(self) -> RowsConfig:
        """Where the media library's rows are."""
        if self.database_url is not None:
            return PostgresConfig(self.database_url.get_secret_value())
        file = self.data_dir / ".stillroom" / "library.db"
        return SqliteConfig(file, durable=self.durability == "full")

    @property
    def media_url(self) -> str:
        """What public URLs of the media library begin with: a key's at the CDN, else an id's."""
        if self.r2_public_url and self._has_bucket:
            return self.r2_public_url
        base = self.public_base_url or f"http://127.0.0.1:{self.port}"
        return f"{base}/api/v1/media-resources"

    @property
    def _has_bucket(self) -> bool:
        return bool(self.r2_endpoint_url or self.r2_access_key_id)  # `variables.BUCKET`

    def warnings(self) -> list[str]:
        """What nothing reads, and what works on one machine and breaks on the second, by lines."""
        lines = list(self._unread)
        if self._has_bucket:
            local = ((_LOCAL_TOKENS, self.jwt_secret), (_LOCAL_ROWS, self.database_url))
            lines += [line for line, shared in local if shared is None]
        return lines

    @property
    def save_rules(self) -> SaveRules:
        """What every save must keep to."""
        return SaveRules(max_bytes=self.max_upload_bytes, require_image=self.require_image)


def _credentials() -> Path | None:
    """Where secrets lie as files; https://systemd.io/CREDENTIALS/."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder and Path(folder).is_dir() else None


def _without_environment(settings: type[S]) -> type[S]:
    """The same settings, which do not listen to the environment."""

    class WithoutEnvironment(settings):  # type: ignore[valid-type, misc]  # mypy knows no class made of a variable
        @classmethod
        def settings_customise_sources(
            cls, *_: object, init_settings: PydanticBaseSettingsSource, **__: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    return WithoutEnvironment


def _field(variable: str) -> str:
    return variable.removeprefix("STILLROOM_").lower()


def _variable(field: str) -> str:
    """The environment variable behind a field, as pydantic names it in an error."""
    return field if field.startswith("R2_") else f"STILLROOM_{field.upper()}"
