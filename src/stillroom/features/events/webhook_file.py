"""Parser for `webhooks.toml`, the file in which the operator configures endpoints of webhooks.

No client of the API can add an endpoint.
"""

import hashlib
import ipaddress
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stillroom.durations import parse_duration
from stillroom.errors import ConfigurationError
from stillroom.features.events.signing import SECRET_PREFIX, parse_secret
from stillroom.features.events.types import TYPES
from stillroom.store.auth.signed_urls import MAX_LIFE_S
from stillroom.store.toml_tables import InvalidTable, Parsers, parse_prefix, parse_tables, read_file

FILE_NAME: Final = "webhooks.toml"  # in the data directory, unless STILLROOM_WEBHOOKS_FILE is set
MAX_NAME_CHARACTERS: Final = 64
_MAX_ENDPOINTS: Final = 32  # each one polls the feed twice a second
_MAX_SECRETS: Final = 10

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_NAME_CHARACTERS - 1}}}")
_URL: Final = re.compile(r"[\x21-\x7e]{1,2048}")

log = logging.getLogger("stillroom.events")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Receiver of webhooks, from a table `[[endpoint]]` in the file.

    Attributes:
        secrets: Keys of the signatures. There are several while a secret is rotated.
        types: Types of the events to send.
        prefix: Prefix of the paths whose events are sent. If it is empty, all events are sent.
        signed_urls: Lifetime in seconds of the signed URL that is added to events about saved
            images. None: no URL is added.
        insecure: True if plain HTTP to other machines is allowed.
    """

    name: str
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)
    types: tuple[str, ...] = TYPES
    prefix: str = ""
    signed_urls: int | None = None
    secret_file: Path = Path()
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class WebhookFile:
    """Endpoints by name, and the SHA-256 of `webhooks.toml` (`digest`)."""

    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    digest: str = ""

    @property
    def secret_files(self) -> list[Path]:
        """Files that contain the secrets."""
        return [*dict.fromkeys(endpoint.secret_file for endpoint in self.endpoints.values())]

    @property
    def warnings(self) -> list[str]:
        """Warnings about secret files that other users can read."""
        return [
            f"other users can read the webhook secret: run `chmod 600 {str(file)!r}`"
            for file in self.secret_files
            if file.exists() and file.stat().st_mode & 0o077
        ]


class WatchedWebhooks:
    """Current endpoints in `webhooks.toml`, which a job reloads every few seconds.

    If a changed file is invalid, the error is logged and the previous endpoints remain in use.
    """

    def __init__(self, file: Path, *, is_named: bool) -> None:
        """Read the file, as `read_webhooks` does."""
        self.file = file
        self._is_named = is_named
        self._error = ""
        self.content = read_webhooks(file, is_named=is_named)

    def reload(self) -> bool:
        """Read the file again. Return whether endpoints or secrets have changed."""
        try:
            content, error = read_webhooks(self.file, is_named=self._is_named), ""
        except ConfigurationError as invalid:
            content, error = self.content, str(invalid)
        if error not in ("", self._error):
            log.error("the webhooks stay as they were, because the new file is invalid: %s", error)
        self._error = error
        if content == self.content:
            return False
        self.content = content
        log.info("read %s: webhooks to %s", self.file, ", ".join(content.endpoints) or "none")
        for warning in content.warnings:
            log.warning("%s", warning)
        return True


def read_webhooks(file: Path, *, is_named: bool, with_secrets: bool = True) -> WebhookFile:
    """Read the endpoints and their secrets. If the file does not exist, there are no endpoints.

    If `is_named` (a setting names the file), it must exist. Raises `ConfigurationError` if the
    file, or a secret file, cannot be read or is invalid.
    """
    data = read_file(file, is_named=is_named)
    if data is None:
        return WebhookFile()
    endpoints: dict[str, Endpoint] = {}

    def build(title: str, values: dict[str, Any]) -> None:
        for key, example in _REQUIRED.items():
            if key not in values:
                message = f'{title} has no {key}: add it, such as `{key} = "{example}"`'
                raise InvalidTable("", message)
        if not values.get("insecure") and not _is_confidential(values["url"]):
            message = f"url of {title} must begin with https://: plain HTTP does not hide the"
            raise InvalidTable("url", f"{message} events; `insecure = true` allows it")
        if (name := values["name"]) in endpoints:
            raise InvalidTable("name", f"{title} has the same name as another: {name!r}")
        values["secret_file"] = file.parent.absolute() / values["secret_file"]
        secrets = _read_secrets(values["secret_file"], title) if with_secrets else ()
        endpoints[name] = Endpoint(secrets=secrets, **values)

    parse_tables(file, data, "endpoint", _PARSERS, build, most=_MAX_ENDPOINTS)
    return WebhookFile(endpoints, hashlib.sha256(data).hexdigest())


def configuration_files(file: Path) -> list[Path]:
    """Return `webhooks.toml` and its secret files, or only `webhooks.toml` if it is invalid."""
    try:
        return [file, *read_webhooks(file, is_named=False, with_secrets=False).secret_files]
    except ConfigurationError:
        return [file]


def _read_secrets(file: Path, title: str) -> tuple[bytes, ...]:
    """Read the secrets of an endpoint, one per line. No error message contains a secret."""
    try:
        lines = (read_file(file, is_named=True) or b"").decode("ascii", "replace").split()
        if not 1 <= len(lines) <= _MAX_SECRETS:
            raise ValueError(f"must contain 1 to {_MAX_SECRETS} secrets, one per line")  # noqa: TRY301  (as all errors of secrets)
        return tuple(map(parse_secret, lines))
    except ConfigurationError as error:
        problem = f": {error}"
    except ValueError as error:
        problem = f", {str(file)!r}: it {error}"
    raise InvalidTable("secret_file", f"secret_file of {title}{problem}")


def _is_confidential(url: str) -> bool:
    """Return whether requests to a URL are encrypted, or stay on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _parse_name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            "must be a name such as 'backend': letters, digits, '.', '-' and '_', at most "
            f"{MAX_NAME_CHARACTERS} characters"
        )
    return value


def _parse_url(value: object) -> str:
    problem = ValueError("must be a URL such as 'https://backend.example/hooks/images'")
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise problem
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise problem from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise problem
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or a password: receivers check the signature")
    return value


def _parse_secret_file(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the name of a file, such as 'backend.secret'")
    if value.startswith(SECRET_PREFIX):  # a message with this file name would print the secret
        raise ValueError("must be the name of a file, which contains the secret")
    return Path(value)


def _parse_types(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(kind, str) for kind in value):
        raise ValueError("must be a list of event types; leave it out for all types")
    if unknown := [kind for kind in value if kind not in TYPES]:
        raise ValueError(f"contains the unknown type {unknown[0]!r}: types are {', '.join(TYPES)}")
    return tuple(dict.fromkeys(value))


def _parse_signed_urls(value: object) -> int:
    lifetime = parse_duration(value) if isinstance(value, str) else None
    if not lifetime or lifetime > timedelta(seconds=MAX_LIFE_S):
        raise ValueError("must be a duration such as '1h' or '24h', seven days at most")
    return int(lifetime.total_seconds())


def _parse_insecure(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004  (as all parsers)
    return value


_PARSERS: Final[Parsers] = {
    "name": _parse_name,
    "url": _parse_url,
    "secret_file": _parse_secret_file,
    "types": _parse_types,
    "prefix": parse_prefix,
    "signed_urls": _parse_signed_urls,
    "insecure": _parse_insecure,
}

_REQUIRED: Final = {
    "name": "backend",
    "url": "https://backend.example/hooks/images",
    "secret_file": "backend.secret",
}
