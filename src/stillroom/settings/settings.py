"""The settings of one process: read and checked, with what several fields mean together."""

import re
import shlex
import warnings
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from pydantic import PrivateAttr, ValidationError
from pydantic_settings import SettingsError

from stillroom.auth.config import JwksConfig, KeyFileConfig, KeysConfig, SecretConfig
from stillroom.derived.config import DerivedConfig
from stillroom.errors import ConfigurationError
from stillroom.media.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.paths import COMPUTE_PREFIX
from stillroom.settings.fields import Fields
from stillroom.settings.sources import (
    credentials_folder,
    former_values,
    given_names,
    unread_names,
    values_in,
    variable_of,
    without_environment,
)
from stillroom.storage.choose import DiskConfig, R2Config
from stillroom.storage.values import SaveRules

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SHORTEST_KEY: Final = 16
_KEY: Final = re.compile(r"[A-Za-z0-9_-]*")

_LOCAL_TOKENS: Final = (
    "the bucket is shared and the token secret is this machine's own: "
    "set STILLROOM_JWT_SECRET to the same on all machines"
)

_LOCAL_ROWS: Final = (
    "the bucket is shared and the media library's rows are this machine's own: "
    "set STILLROOM_DATABASE_URL to the same PostgreSQL on all machines"
)


class Settings(Fields):
    """Read from `STILLROOM_*`; an unusable value stops the start with one sentence."""

    _unread: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def read(cls, **flags: object) -> Self:
        """Read the environment; `flags` that are not None win over it.

        What no variable says can be in a file of its name, in the folder that systemd (or a
        container's configuration) names in CREDENTIALS_DIRECTORY: docs/adr/0020.

        Raises:
            ConfigurationError: one sentence that names each setting at fault; or a variable is
                so near to one that it must be meant.
        """
        return cls._read(given_names(), {**former_values(), **flags})

    @classmethod
    def read_with(cls, values: Mapping[str, object]) -> Self:
        """Read the environment; `values` that are not None win, by the names of the fields.

        Raises:
            ConfigurationError: as `read`; or there is no such field.
        """
        if unknown := sorted(values.keys() - cls.model_fields.keys()):
            raise ConfigurationError(
                f"there is no such setting: {', '.join(unknown)} (see docs/reference/settings.md)"
            )
        flags = {
            str(cls.model_fields[name].validation_alias or name): value
            for name, value in values.items()
        }
        return cls.read(**flags)

    @classmethod
    def read_file(cls, file: Path) -> Self:
        """Read `NAME=value` lines, as systemd and Docker do, and nothing of the environment.

        Raises:
            ConfigurationError: as `read`; or the file cannot be read.
        """
        values, names = values_in(file)
        try:
            return without_environment(cls)._read(names, values)  # noqa: SLF001  (a class of this one)
        except ConfigurationError as error:
            raise ConfigurationError(f"in {str(file)!r}: {error}") from error

    @classmethod
    def of_values(cls, **values: object) -> Self:
        """Settings with these fields and nothing of the environment.

        Raises:
            ConfigurationError: one sentence that names each setting at fault.
        """
        return without_environment(cls)._read((), values)  # noqa: SLF001  (the same)

    @classmethod
    def _read(cls, names: Iterable[str], values: Mapping[str, object]) -> Self:
        passed_over = unread_names(names)
        given = {name: value for name, value in values.items() if value is not None}
        given["_secrets_dir"] = credentials_folder()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # a folder in a credential's place
                settings = cls(**given)  # type: ignore[arg-type]  # pydantic checks what mypy cannot
        except (OSError, SettingsError, UserWarning) as error:
            raise ConfigurationError(
                f"a credential in {credentials_folder()} cannot be read ({error}): each must be "
                "a file with text that this user may read"
            ) from error
        except ValidationError as error:
            faults = "; ".join(
                f"{variable_of(str(fault['loc'][0]))} {_explained(fault)}"
                for fault in error.errors(include_input=False, include_url=False)
            )
            raise ConfigurationError(faults) from error
        settings._unread = passed_over
        return settings

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

    @property
    def token_command(self) -> str:
        """The command that makes a token, in any shell of this machine; empty: none does."""
        if self.jwt_algorithm != "HS256":
            return ""
        if self.jwt_secret is not None or "data_dir" not in self.model_fields_set:
            return "stillroom token"
        return f"stillroom token --data-dir {shlex.quote(str(self.data_dir.absolute()))}"

    @property
    def sign_in_folder(self) -> Path:
        """Where the codes of sign-in links are."""
        return self.data_dir / ".stillroom" / "sign-in"

    @property
    def secret(self) -> SecretConfig:
        """What tokens and URLs are signed with."""
        current = None if self.jwt_secret is None else self.jwt_secret.get_secret_value()
        previous = tuple(old.get_secret_value() for old in self.jwt_previous_secrets)
        return SecretConfig(self.secret_file, current=current, previous=previous)

    @property
    def keys(self) -> KeysConfig:
        """What the signatures of tokens are checked with.

        Raises:
            ConfigurationError: the settings contradict each other.
        """
        file, url = self.jwt_public_key_file, self.jwt_jwks_url
        if self.jwt_algorithm == "HS256":
            for variable, value in (
                ("STILLROOM_JWT_PUBLIC_KEY_FILE", file),
                ("STILLROOM_JWT_JWKS_URL", url),
            ):
                if value:
                    raise ConfigurationError(
                        f"{variable} is set, but HS256 has only secrets: set "
                        "STILLROOM_JWT_ALGORITHM to RS256, ES256 or EdDSA, whichever the key is for"
                    )
            return self.secret
        if file is None and not url:
            raise ConfigurationError(
                f"STILLROOM_JWT_ALGORITHM={self.jwt_algorithm} needs a public key: "
                "set STILLROOM_JWT_PUBLIC_KEY_FILE or STILLROOM_JWT_JWKS_URL"
            )
        if file is not None and url:
            raise ConfigurationError(
                "STILLROOM_JWT_JWKS_URL and STILLROOM_JWT_PUBLIC_KEY_FILE are both set: unset one"
            )
        if file is not None:
            return KeyFileConfig(file, self.jwt_algorithm)
        if not self.jwt_audience:
            raise ConfigurationError(
                "STILLROOM_JWT_JWKS_URL needs STILLROOM_JWT_AUDIENCE: set it to the `aud` of the "
                "tokens for this server, since the provider signs tokens for other services too"
            )
        return JwksConfig(url, self.jwt_algorithm)

    @property
    def storage(self) -> DiskConfig | R2Config:
        """Which backend, and how.

        Raises:
            ConfigurationError: the bucket is configured by halves, where falling back to the
                disk would scatter a user's images over two places; or it has no address.
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
        token = self.r2_session_token
        config = R2Config(
            endpoint_url=self.r2_endpoint_url,
            access_key_id=self.r2_access_key_id,
            secret_access_key=secret,
            bucket=self.r2_bucket_name,
            public_url=self.r2_public_url or None,
            cache_control=self.r2_cache_control,
            check_exists=self.r2_check_exists,
            region=self.r2_region,
            session_token=token.get_secret_value() or None if token else None,
            addressing=self.r2_addressing,
        )
        config.address  # noqa: B018  (a bucket that no host can name raises here)
        return config

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
    def proxy_key(self) -> bytes | None:
        """What a proxy shows that sends large images itself; None: no proxy may.

        Raises:
            ConfigurationError: the settings contradict each other.
        """
        if self.sendfile == "off":
            return None
        if self._has_bucket:
            raise ConfigurationError(
                "STILLROOM_SENDFILE is set, but images are in a bucket: unset it"
            )
        key = self.sendfile_key.get_secret_value() if self.sendfile_key else ""
        if len(key) < _SHORTEST_KEY or not _KEY.fullmatch(key):
            raise ConfigurationError(
                f"STILLROOM_SENDFILE={self.sendfile} needs a key that only the proxy knows: set "
                f"STILLROOM_SENDFILE_KEY to at least {_SHORTEST_KEY} letters and digits, and "
                "X-Stillroom-Sendfile to the same in nginx's configuration"
            )
        return key.encode()

    @property
    def image_origins(self) -> list[str]:
        """Whose images the page shows beside our own: where a GET of one may redirect to."""
        config = self.storage
        if not isinstance(config, R2Config):
            return []
        if config.public_url is None:
            return [config.address.origin]
        parts = urlsplit(config.public_url)
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


_MUST: Final = {
    "int": "must be an integer",
    "float": "must be a number",
    "finite_number": "must be a number",
    "bool": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "has characters, or a length, that it does not take",
}
"""By pydantic's kinds of errors: https://docs.pydantic.dev/latest/errors/validation_errors/."""


def _explained(fault: "ErrorDetails") -> str:
    """What a value must be; our own checks say so themselves, and pydantic names its types."""
    kind = fault["type"]
    said = _MUST.get(kind) or _MUST.get(kind.partition("_")[0])
    if said is None:
        return fault["msg"].removeprefix("Value error, ")
    return said.format(**fault.get("ctx", {}))
