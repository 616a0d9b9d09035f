"""Settings: read once, from the environment, checked before anything starts."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stillroom.auth.secret import load_or_make_secret
from stillroom.errors import ConfigurationError
from stillroom.storage.choose import DiskConfig
from stillroom.storage.interface import SaveRules

MIB: Final = 1024**2


class Settings(BaseSettings):
    """Read from `STILLROOM_*`; an unusable value stops the start with one sentence."""

    model_config = SettingsConfigDict(env_prefix="STILLROOM_", frozen=True, extra="ignore")

    data_dir: Path = Path("stillroom-data")
    """Everything lies below it; made if missing."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)

    public_base_url: str = ""
    """What public URLs begin with; `http://127.0.0.1:PORT` by default. Never from a Host header."""

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

    log_format: Literal["console", "json"] = "console"
    access_log: bool = False
    """One line a request. Failures are logged, and requests counted, in any case."""

    @field_validator("jwt_previous_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [secret.strip() for secret in value.split(",") if secret.strip()]
        return value

    @field_validator("public_base_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be a URL such as https://images.example.com")
        if parts.query or parts.fragment:
            raise ValueError("must end with the host or a path")
        return value.rstrip("/")

    @classmethod
    def read(cls, **flags: object) -> Self:
        """Read the environment; `flags` that are not None win over it.

        Raises:
            ConfigurationError: one sentence that names each setting at fault.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)  # type: ignore[arg-type]  # pydantic checks what mypy cannot
        except ValidationError as error:
            faults = "; ".join(
                f"STILLROOM_{str(fault['loc'][0]).upper()}: {fault['msg']}"
                for fault in error.errors(include_input=False, include_url=False)
            )
            raise ConfigurationError(faults) from error

    @property
    def images_url(self) -> str:
        """What public image URLs begin with."""
        base = self.public_base_url or f"http://127.0.0.1:{self.port}"
        return f"{base}/api/v1/storage/images"

    @property
    def secret_file(self) -> Path:
        """Where the secret is kept if none is configured."""
        return self.data_dir / ".stillroom" / "secret"

    def signing_secrets(self) -> tuple[list[str], bool]:
        """The secrets that tokens may be signed with, and whether one was made just now.

        The current one, which signs new tokens, comes first.

        Raises:
            ConfigurationError: none is configured and none can be made.
        """
        made = False
        if self.jwt_secret is None:
            current, made = load_or_make_secret(self.secret_file)
        else:
            current = self.jwt_secret.get_secret_value()
        return [current, *(old.get_secret_value() for old in self.jwt_previous_secrets)], made

    @property
    def storage(self) -> DiskConfig:
        """Which backend, and how."""
        return DiskConfig(
            data_dir=self.data_dir,
            min_free_bytes=self.min_free_bytes,
            durable=self.durability == "full",
        )

    @property
    def save_rules(self) -> SaveRules:
        """What every save must keep to."""
        return SaveRules(max_bytes=self.max_upload_bytes, require_image=self.require_image)
