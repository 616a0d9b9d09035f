"""Parser for `webhooks.toml`.

Only the operator configures endpoints, in this file. No client of the API can add a URL.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stillroom.durations import parse_duration
from stillroom.errors import ConfigurationError
from stillroom.features.events.event import TYPES
from stillroom.features.events.secret_file import read_secrets, warning_about
from stillroom.paths import ImagePrefix
from stillroom.store.auth.signed_urls import MAX_LIFE_S
from stillroom.store.toml_tables import (
    InvalidTable,
    check_keys,
    parse_tables,
    parse_values,
    read_file,
)

FILE_NAME: Final = "webhooks.toml"
"""Name of the file in the data directory. `STILLROOM_WEBHOOKS_FILE` overrides it."""

MAX_NAME_CHARACTERS: Final = 64

_MAX_ENDPOINTS: Final = 32
"""Maximum number of endpoints. Each one is a reader of the feed, which polls once a second."""

_MAX_URL_CHARACTERS: Final = 2048

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_NAME_CHARACTERS - 1}}}")
_URL: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Receiver of webhooks.

    Attributes:
        url: URL to which events are sent. Plain HTTP only to this machine, or if it is allowed.
        secrets: Keys of the signatures. There are several while a secret is rotated.
        types: Types of the events to send.
        prefix: Prefix of the paths of images and runs. Empty: all events.
        signed_urls_s: Lifetime in seconds of the signed URL in events about saved images. None: the
            events contain no signed URL.
    """

    name: str
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)
    types: tuple[str, ...] = TYPES
    prefix: str = ""
    signed_urls_s: int | None = None


@dataclass(frozen=True, slots=True)
class WebhookFile:
    """Content of `webhooks.toml`.

    Attributes:
        digest: SHA-256 of the file in hexadecimal digits, without the files of the secrets.
        secret_files: Files that contain the secrets.
        warnings: Warnings for the operator.
    """

    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    digest: str = ""
    secret_files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Table:
    """Values of one table, whose secrets have not been read."""

    name: str
    url: str
    secret_file: Path
    types: tuple[str, ...] = TYPES
    prefix: str = ""
    signed_urls: int | None = None
    insecure: bool = False


def read_webhooks(file: Path, *, is_named: bool) -> WebhookFile:
    """Read the endpoints and their secrets. Without the file, there are no endpoints.

    `is_named` is True if a setting contains the file's name. The file must then exist.

    Raises:
        ConfigurationError: the file or the file of a secret cannot be read or is invalid.
    """
    data = read_file(file, is_named=is_named)
    if data is None:
        return WebhookFile()
    tables = _parse_tables(file, data)
    endpoints = {
        table.name: Endpoint(
            table.name,
            table.url,
            read_secrets(table.secret_file, f"secret_file of {table.name} in {file}"),
            table.types,
            table.prefix,
            table.signed_urls,
        )
        for table in tables
    }
    secret_files = tuple(dict.fromkeys(table.secret_file for table in tables))
    return WebhookFile(
        endpoints,
        hashlib.sha256(data).hexdigest(),
        secret_files,
        tuple(warning for name in secret_files if (warning := warning_about(name))),
    )


def configuration_files(file: Path) -> list[Path]:
    """Return `webhooks.toml` and the files of its secrets. If it is invalid, return only it."""
    try:
        data = read_file(file, is_named=False)
        tables = [] if data is None else _parse_tables(file, data)
    except ConfigurationError:
        tables = []
    return [file, *dict.fromkeys(table.secret_file for table in tables)]


def _parse_tables(file: Path, data: bytes) -> list[_Table]:
    names = set[str]()

    def parse(title: str, table: Mapping[str, Any]) -> _Table:
        parsed = _parse_table(file, title, table)
        if parsed.name in names:
            raise InvalidTable("name", f"{title} has the same name as another: {parsed.name!r}")
        names.add(parsed.name)
        return parsed

    return parse_tables(file, data, "endpoint", parse, most=_MAX_ENDPOINTS)


def _parse_table(file: Path, title: str, table: Mapping[str, Any]) -> _Table:
    check_keys(title, table, _PARSERS)
    for key, example in _REQUIRED.items():
        if key not in table:
            raise InvalidTable("", f'{title} has no {key}: add it, such as `{key} = "{example}"`')
    values = parse_values(title, table, _PARSERS)
    if not values.get("insecure") and not _is_confidential(values["url"]):
        raise InvalidTable(
            "url",
            f"url of {title} must begin with https://: plain HTTP does not hide the events; "
            "`insecure = true` allows it",
        )
    values["secret_file"] = file.parent.absolute() / values["secret_file"]
    return _Table(**values)


def _is_confidential(url: str) -> bool:
    """Return whether requests are encrypted or stay on this machine."""
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
    if len(value) > _MAX_URL_CHARACTERS:
        raise ValueError(f"must have at most {_MAX_URL_CHARACTERS} characters")
    return value


def _parse_secret_file(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the name of a file, such as 'backend.secret'")
    return Path(value)


def _parse_types(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(kind, str) for kind in value):
        raise ValueError("must be a list of event types; leave it out for all types")
    if unknown := [kind for kind in value if kind not in TYPES]:
        raise ValueError(f"contains the unknown type {unknown[0]!r}: types are {', '.join(TYPES)}")
    return tuple(dict.fromkeys(value))


def _parse_prefix(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string such as 'generations/'")  # noqa: TRY004  (as all parsers)
    return ImagePrefix.parse(value).text


def _parse_signed_urls(value: object) -> int:
    lifetime = parse_duration(value) if isinstance(value, str) else None
    if not lifetime or lifetime > timedelta(seconds=MAX_LIFE_S):
        raise ValueError("must be a duration such as '1h' or '24h', seven days at most")
    return int(lifetime.total_seconds())


def _parse_insecure(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004  (as all parsers)
    return value


_PARSERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "name": _parse_name,
    "url": _parse_url,
    "secret_file": _parse_secret_file,
    "types": _parse_types,
    "prefix": _parse_prefix,
    "signed_urls": _parse_signed_urls,
    "insecure": _parse_insecure,
}

_REQUIRED: Final = {
    "name": "backend",
    "url": "https://backend.example/hooks/images",
    "secret_file": "backend.secret",
}
