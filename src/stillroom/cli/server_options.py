"""Options `--url`, `--token` and `--profile`, which select the server and token of a command."""

import functools
import importlib.util
import ipaddress
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import click

from stillroom.cli.exits import own_secret_file
from stillroom.cli.options import read_settings
from stillroom.cli.profiles import find_profile
from stillroom.client import AsyncImageStore, ImageStore
from stillroom.client.connection import DEFAULT_URL, Token

if TYPE_CHECKING:
    from stillroom.settings import AllSettings

_KEPT_AS: Final = "stillroom.server"
_LIFE: Final = timedelta(minutes=2)
"""Lifetime of a token that a command creates. It is short: another program may receive it."""

SERVER: Final = (
    "The server is set by --url, --profile, STILLROOM_URL, STILLROOM_PROFILE or the profile "
    "`default`, in this order. Without them, it is http://127.0.0.1:8000, or another port if "
    "STILLROOM_PORT is set. The token is set by --token, the profile or STILLROOM_TOKEN. On the "
    "server's machine, no token is needed if you can read the data directory "
    "(STILLROOM_DATA_DIR). Profiles are in ~/.config/stillroom/stillroom.conf: docs/cli.md."
)
_OPTIONS: Final = {
    "--url": f"The server.  [STILLROOM_URL, {DEFAULT_URL}]",
    "--token": "The token; other users may see it in a list of processes.  [STILLROOM_TOKEN]",
    "--profile": "Name of a profile: a server and its token.  [STILLROOM_PROFILE]",
}


def _keep(context: click.Context, option: click.Parameter, value: str | None) -> None:
    context.meta[f"{_KEPT_AS}.{option.name}"] = value


class ServerCommand(click.Command):
    """Command with the options `--url`, `--token` and `--profile`. `open_store` reads them."""

    def __init__(self, name: str | None, *, epilog: str = SERVER, **attributes: Any) -> None:  # noqa: ANN401  (see `click.Command`)
        super().__init__(name, epilog=epilog, **attributes)
        self.params += [
            click.Option([option], help=text, expose_value=False, callback=_keep)
            for option, text in _OPTIONS.items()
        ]


def open_store(
    context: click.Context | None = None, *, deadline_s: float = 120, timeout_s: float = 60
) -> ImageStore:
    """Return a client for the server that the options of the command select."""
    return ImageStore(*_server(context), deadline_s=deadline_s, timeout_s=timeout_s)


def open_async_store() -> AsyncImageStore:
    """Return an asynchronous client for the server that the options of the command select."""
    return AsyncImageStore(*_server(None))


def is_server_named() -> bool:
    """Return whether an option, an environment variable or a profile names a server."""
    options = click.get_current_context().meta
    variables = map(os.environ.get, ("STILLROOM_URL", "STILLROOM_PROFILE"))
    is_named = any((options[f"{_KEPT_AS}.url"], options[f"{_KEPT_AS}.profile"], *variables))
    return is_named or find_profile(None) is not None


def _server(context: click.Context | None) -> tuple[str, Token | None]:
    options = (context or click.get_current_context()).meta
    names = ("url", "token", "profile")
    url, token, profile_name = (options.get(f"{_KEPT_AS}.{name}") for name in names)
    if profile_name or not (url or os.environ.get("STILLROOM_URL")):
        name = profile_name or os.environ.get("STILLROOM_PROFILE")
        profile = find_profile(name or None)
        if profile is not None:
            if url is None or _origin(url) == _origin(profile.url):
                token = token or profile.token  # never send it to another server
            url = url or profile.url
    own_url = f"http://127.0.0.1:{os.environ.get('STILLROOM_PORT') or 8000}"
    url = url or os.environ.get("STILLROOM_URL") or own_url
    return url, token or os.environ.get("STILLROOM_TOKEN") or _own_token(url)


def _origin(url: str | None) -> tuple[str, str]:
    parts = urlsplit(url or DEFAULT_URL)
    return parts.scheme, parts.netloc


def _own_token(url: str) -> Token | None:
    """Return a function that creates tokens, or None if this machine has no readable secret."""
    if not _is_here(url):
        return None
    if not os.environ.get("STILLROOM_JWT_SECRET") and not os.access(own_secret_file(), os.R_OK):
        return None
    if importlib.util.find_spec("jwt") is None:  # an installation of the SDK alone
        return None
    minted = functools.lru_cache(maxsize=1)(lambda _: minted_token(read_settings(None), _LIFE))
    half_s = _LIFE.total_seconds() / 2  # after which another token is created
    return lambda: minted(time.monotonic() // half_s)


def _is_here(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
    proxies = getproxies()
    through_proxy = parts.scheme in proxies or "all" in proxies
    return is_here and (not through_proxy or bool(proxy_bypass(parts.netloc)))


def minted_token(settings: "AllSettings", expires: timedelta, **claims: Any) -> str:  # noqa: ANN401  (see `mint_token`)
    """Create a token with the secret of the server on this machine. Its default subject is `cli`.

    Raises `ConfigurationError` if another service signs tokens, or `FileNotFoundError`.
    """
    from stillroom.store.auth.choose import minting_secret
    from stillroom.store.auth.tokens import mint_token

    return mint_token(
        minting_secret(settings.secret, settings.jwt_algorithm),
        expires_in=expires,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        **{"subject": "cli", **claims},
    )
