"""Settings of the core, with values derived from several fields."""

import shlex
import shutil
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import PrivateAttr, ValidationError
from pydantic_settings import PydanticBaseSettingsSource as Source
from pydantic_settings import SettingsError

from stillroom.errors import ConfigurationError
from stillroom.paths import COMPUTE_PREFIX
from stillroom.store.auth.config import KeysConfig, PublicKeysConfig, SecretConfig
from stillroom.store.choose import DiskConfig, R2Config
from stillroom.store.settings import sources
from stillroom.store.settings.fields import Fields, variable_of
from stillroom.store.values import SaveRules

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ISOLATED: Final = "_isolated"  # argument with which the environment is ignored

_Section = TypeVar("_Section", bound="Settings")


class Settings(Fields):
    """Settings of the core, with properties that combine several settings.

    These properties raise `ConfigurationError` if the settings contradict each other.
    """

    _unread: list[str] = PrivateAttr(default_factory=list)

    def __init__(self, **values: object) -> None:
        fields = type(self).model_fields
        variables = {variable_of(name) if name in fields else name: values[name] for name in values}
        super().__init__(**variables)  # type: ignore[arg-type]  # pydantic checks what mypy cannot

    @classmethod
    def read(cls, **values: object) -> Self:
        """Read the settings from environment variables and credential files (docs/adr/0020).

        `values` other than None have priority. Raises `ConfigurationError` for invalid values,
        unknown names in `values`, and misspelled variables.
        """
        if unknown := sorted(values.keys() - cls.model_fields.keys()):
            raise ConfigurationError(
                f"there is no such setting: {', '.join(unknown)} (see docs/reference/settings.md)"
            )
        return cls._read(sources.variable_names(), {**sources.former_values(), **values})

    @classmethod
    def read_file(cls, file: Path) -> Self:
        """Read the settings from a file with `NAME=value` lines, and not from the environment."""
        values, names = sources.read_file(file)
        try:
            return cls._read(names, {**values, _ISOLATED: True})
        except ConfigurationError as error:
            raise ConfigurationError(f"in {str(file)!r}: {error}") from error

    @classmethod
    def of_values(cls, **values: object) -> Self:
        """Create settings without the environment. Keywords name settings or their variables."""
        return cls._read((), {**values, _ISOLATED: True})

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # it is called with keywords
        cls, *_: object, init_settings: Source, **others: Source
    ) -> tuple[Source, ...]:
        """Return the sources of values by priority. Pydantic calls this."""
        return (init_settings, *(() if _ISOLATED in init_settings() else others.values()))

    @classmethod
    def _read(cls, names: Iterable[str], values: Mapping[str, object]) -> Self:
        unread = sources.unread_names(names, cls.model_fields)
        present = {name: value for name, value in values.items() if value is not None}
        folder = present["_secrets_dir"] = sources.credentials_folder()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # a folder instead of a credential file
                settings = cls(**present)
        except (OSError, SettingsError, UserWarning) as error:
            raise ConfigurationError(
                f"a credential in {folder} cannot be read ({error}): each must be "
                "a file with text that this user may read"
            ) from error
        except ValidationError as error:
            faults = "; ".join(
                f"{fault['loc'][0]} {_explained(fault)}"
                for fault in error.errors(include_input=False, include_url=False)
            )
            raise ConfigurationError(faults) from error
        settings._unread = unread
        return settings

    def section(self, kind: type[_Section]) -> _Section:
        """Return these settings as an instance of `kind`, the settings of a feature."""
        if not isinstance(self, kind):
            raise TypeError(f"{type(self).__name__} has no {kind.__name__}: read AllSettings")
        return self

    @property
    def files(self) -> list[Path]:
        """Configuration files of features, which may be in the data directory."""
        return []

    @property
    def images_url(self) -> str:
        """Base URL of public images: at the CDN if there is one, otherwise at this server."""
        if self._cdn_url:
            return f"{self._cdn_url}/{COMPUTE_PREFIX.rstrip('/')}"
        return self.api_images_url

    @property
    def api_images_url(self) -> str:
        """Base URL of images at this server."""
        base = self.public_base_url or f"http://127.0.0.1:{self.port}"
        return f"{base}/api/v1/storage/images"

    @property
    def secret_file(self) -> Path:
        """File with the generated token secret, which is used if no secret is configured."""
        return self.data_dir / ".stillroom" / "secret"

    @property
    def token_command(self) -> str:
        """Command that creates a token on this machine; empty if another issuer signs tokens."""
        if self.jwt_algorithm != "HS256":
            return ""
        installed = Path(sys.executable).with_name("stillroom")  # in a virtual environment
        is_elsewhere = shutil.which("stillroom") is None and installed.exists()
        program = shlex.quote(str(installed)) if is_elsewhere else "stillroom"
        if self.jwt_secret is not None or "data_dir" not in self.model_fields_set:
            return f"{program} token"
        return f"{program} token --data-dir {shlex.quote(str(self.data_dir.absolute()))}"

    @property
    def secret(self) -> SecretConfig:
        """Secrets that sign tokens and URLs."""
        current = None if self.jwt_secret is None else self.jwt_secret.get_secret_value()
        previous = tuple(old.get_secret_value() for old in self.jwt_previous_secrets)
        return SecretConfig(self.secret_file, current=current, previous=previous)

    @property
    def keys(self) -> KeysConfig:
        """Keys that verify the signatures of tokens."""
        file, url = self.jwt_public_key_file, self.jwt_jwks_url
        if self.jwt_algorithm == "HS256":
            if file or url:
                variable = "STILLROOM_JWT_PUBLIC_KEY_FILE" if file else "STILLROOM_JWT_JWKS_URL"
                raise ConfigurationError(
                    f"{variable} is set, but HS256 uses no public key: set "
                    "STILLROOM_JWT_ALGORITHM to the algorithm of the key, RS256, ES256 or EdDSA"
                )
            return self.secret
        if file and url:
            raise ConfigurationError(
                "STILLROOM_JWT_JWKS_URL and STILLROOM_JWT_PUBLIC_KEY_FILE are both set: unset one"
            )
        if file:
            return PublicKeysConfig(file, self.jwt_algorithm)
        if not url:
            raise ConfigurationError(
                f"STILLROOM_JWT_ALGORITHM={self.jwt_algorithm} needs a public key: "
                "set STILLROOM_JWT_PUBLIC_KEY_FILE or STILLROOM_JWT_JWKS_URL"
            )
        if not self.jwt_audience:
            raise ConfigurationError(
                "STILLROOM_JWT_JWKS_URL needs STILLROOM_JWT_AUDIENCE: set it to the `aud` of the "
                "tokens for this server, since the provider signs tokens for other services too"
            )
        return PublicKeysConfig(url, self.jwt_algorithm)

    @property
    def storage(self) -> DiskConfig | R2Config:
        """Configuration of the storage backend: a bucket, or a disk."""
        if self._has_bucket:
            return self._bucket()
        return DiskConfig(
            data_dir=self.data_dir,
            min_free_bytes=self.min_free_bytes,
            durable=self.durability == "full",
            group_commit=self.group_commit,
        )

    def _bucket(self) -> R2Config:
        secret = self.r2_secret_access_key.get_secret_value()
        needed = {
            "R2_ENDPOINT_URL": self.r2_endpoint_url,
            "R2_ACCESS_KEY_ID": self.r2_access_key_id,
            "R2_SECRET_ACCESS_KEY": secret,
            "R2_BUCKET_NAME": self.r2_bucket_name,
        }
        if missing := [name for name, value in needed.items() if not value]:
            raise ConfigurationError(
                f"{' and '.join(missing)} must be set too, since other R2_ variables are set: for "
                "a bucket, set R2_ENDPOINT_URL, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and "
                "R2_BUCKET_NAME; for the disk, unset R2_ENDPOINT_URL and R2_ACCESS_KEY_ID"
            )
        if urlsplit(self.r2_endpoint_url).path == f"/{self.r2_bucket_name}":
            raise ConfigurationError(
                "R2_ENDPOINT_URL must not end with the bucket's name: set it only in R2_BUCKET_NAME"
            )
        token = self.r2_session_token
        config = R2Config(
            endpoint_url=self.r2_endpoint_url,
            access_key_id=self.r2_access_key_id,
            secret_access_key=secret,
            bucket=self.r2_bucket_name,
            public_url=self.r2_public_url or None,
            cache_control=self.r2_cache_control,
            media_cache_control=self.r2_media_cache_control,
            check_exists=self.r2_check_exists,
            region=self.r2_region,
            session_token=token.get_secret_value() or None if token else None,
            addressing=self.r2_addressing,
        )
        config.address  # noqa: B018  (raises if no host name can contain the bucket)
        return config

    @property
    def _cdn_url(self) -> str:
        return self.r2_public_url if self._has_bucket else ""

    @property
    def _has_bucket(self) -> bool:
        return bool(self.r2_endpoint_url or self.r2_access_key_id)  # `variables.BUCKET`

    def warnings(self) -> list[str]:
        """Return warnings: variables that are not read, and a token secret that is not shared."""
        lines = list(self._unread)
        if self._has_bucket and self.jwt_secret is None:
            lines.append(
                "the bucket is shared, but the token secret is only on this machine: set "
                "STILLROOM_JWT_SECRET to the same on all machines"
            )
        return lines

    @property
    def save_rules(self) -> SaveRules:
        """Rules for every save: maximum size, and whether only images are accepted."""
        return SaveRules(max_bytes=self.max_upload_bytes, require_image=self.require_image)


# Keys: error types from https://docs.pydantic.dev/latest/errors/validation_errors/
_MUST: Final = {
    "int": "must be an integer",
    "float": "must be a number",
    "finite_number": "must be a number",
    "bool": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "has invalid characters or an invalid length",
}


def _explained(fault: "ErrorDetails") -> str:
    kind = fault["type"]
    message = _MUST.get(kind) or _MUST.get(kind.partition("_")[0])
    if message is None:  # the message of one of our validators
        return fault["msg"].removeprefix("Value error, ")
    return message.format(**fault.get("ctx", {}))
