"""Options `--url`, `--token` and `--profile`, with which commands find their server and token."""

import importlib.util
import ipaddress
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import click

from stillroom.cli.profiles import default_profile, profile_named
from stillroom.client import AsyncImageStore, ImageStore
from stillroom.client.connection import DEFAULT_URL, Token

F = TypeVar("F", bound=Callable[..., Any])

_KEPT_AS: Final = "stillroom.server"
_LIFE: Final = timedelta(minutes=2)
"""Lifetime of a token that a command creates, short in case another program receives the token."""

SERVER: Final = (
    "The server is the one of --url, else of --profile, else at STILLROOM_URL, else of the profile "
    "STILLROOM_PROFILE names, else of the profile `default`, else http://127.0.0.1:8000. The token "
    "is --token, else the profile's, else STILLROOM_TOKEN. On the server's own machine none is "
    "needed where its data directory can be read (STILLROOM_DATA_DIR). Profiles are in "
    "~/.config/stillroom/stillroom.conf: docs/cli.md."
)


def server_options(command: F) -> F:
    """Add `--url`, `--token` and `--profile` to a command. `open_store` uses their values."""
    for name, text in (
        ("profile", "Name of a profile: a server and its token.  [STILLROOM_PROFILE]"),
        ("token", "The token; other users may see it in a list of processes.  [STILLROOM_TOKEN]"),
        ("url", f"The server.  [STILLROOM_URL, {DEFAULT_URL}]"),
    ):
        command = click.option(f"--{name}", help=text, expose_value=False, callback=_keep)(command)
    return command


def _keep(context: click.Context, option: click.Parameter, value: str | None) -> None:
    _options(context)[option.name or ""] = value


def _options(context: click.Context) -> dict[str, str | None]:
    options: dict[str, str | None] = context.meta.setdefault(_KEPT_AS, {})
    return options


def open_store(
    context: click.Context | None = None, *, deadline_s: float = 120, timeout_s: float = 60
) -> ImageStore:
    """Return a client for the server that the options of the command select.

    `deadline_s` and `timeout_s` are passed to `ImageStore`.

    Raises:
        ConfigurationError: the profile does not exist, or the profiles file cannot be used.
    """
    return ImageStore(*_server(context), deadline_s=deadline_s, timeout_s=timeout_s)


def open_async_store() -> AsyncImageStore:
    """Return an asynchronous client for the server that the options of the command select."""
    return AsyncImageStore(*_server(None))


def is_server_named() -> bool:
    """Return whether an option, an environment variable or a profile names a server.

    Raises:
        ConfigurationError: the profiles file cannot be used.
    """
    options = _options(click.get_current_context())
    variables = map(os.environ.get, ("STILLROOM_URL", "STILLROOM_PROFILE"))
    is_named = any((options.get("url"), options.get("profile"), *variables))
    return is_named or default_profile() is not None


def _server(context: click.Context | None) -> tuple[str, Token | None]:
    options = _options(context or click.get_current_context())
    url, token, profile_name = (options.get(name) for name in ("url", "token", "profile"))
    if profile_name or not (url or os.environ.get("STILLROOM_URL")):
        name = profile_name or os.environ.get("STILLROOM_PROFILE")
        profile = profile_named(name) if name else default_profile()
        if profile is not None:
            if url is None or _origin(url) == _origin(profile.url):
                token = token or profile.token  # never send it to another server
            url = url or profile.url
    url = url or os.environ.get("STILLROOM_URL") or DEFAULT_URL
    return url, token or os.environ.get("STILLROOM_TOKEN") or _own_token(url)


def _origin(url: str | None) -> tuple[str, str]:
    parts = urlsplit(url or DEFAULT_URL)
    return parts.scheme, parts.netloc


def _own_token(url: str) -> Token | None:
    """Return a function that creates tokens with the server's secret, or None.

    The result is None if the secret is not readable, or if a token would leave this machine: to
    another host or through a proxy.
    """
    if not _is_here(url):
        return None
    folder = Path(os.environ.get("STILLROOM_DATA_DIR") or "stillroom-data")
    secret = folder / ".stillroom" / "secret"
    if not os.environ.get("STILLROOM_JWT_SECRET") and not os.access(secret, os.R_OK):
        return None
    return _Minted() if importlib.util.find_spec("jwt") else None  # missing in an SDK-only install


def _is_here(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, netloc = parts.hostname or "", parts.netloc
    except ValueError:
        return False
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    proxies = getproxies()
    through_proxy = parts.scheme in proxies or "all" in proxies
    return is_here and (not through_proxy or bool(proxy_bypass(netloc)))


class _Minted:
    """Function object that creates tokens, and reuses each one for half of its lifetime."""

    def __init__(self) -> None:
        self._token = ""
        self._until = 0.0

    def __call__(self) -> str:
        """Return a token that is valid for at least a minute.

        Raises:
            ConfigurationError, FileNotFoundError: see `minted_token`.
        """
        if time.monotonic() > self._until:
            self._until = time.monotonic() + _LIFE.total_seconds() / 2
            self._token = minted_token(expires=_LIFE)
        return self._token


def minted_token(
    *,
    expires: timedelta,
    scopes: tuple[Any, ...] | None = None,
    folder: str | None = None,
    data_dir: str | None = None,
) -> str:
    """Create a token with the settings and the secret of the server on this machine.

    Raises:
        ConfigurationError: the settings are invalid, or another service signs the tokens.
        FileNotFoundError: the secret does not exist.
    """
    from stillroom.auth.choose import minting_secret
    from stillroom.auth.tokens import mint_token
    from stillroom.settings import Settings

    settings = Settings.read(data_dir=data_dir)
    return mint_token(
        minting_secret(settings.secret, settings.jwt_algorithm),
        expires_in=expires,
        scopes=scopes,
        folder=folder,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )
