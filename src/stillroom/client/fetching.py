"""Fetch an image from another server's URL, within bounds: `save_url`.

It is this process that fetches, not the Stillroom server. So a URL that strangers give must not
lead into this process's own network: addresses that are not public are refused unless the caller
allows them, at every redirect, and the connection goes to the very address that was looked at.
"""

import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterator
from typing import IO, Final
from urllib.parse import urljoin

import httpx

from stillroom.client.errors import ServerUnreachable, UnexpectedAnswer
from stillroom.client.sinks import spool
from stillroom.errors import InvalidParameter, TooLarge, UnsupportedMedia

MAX_BYTES: Final = 100 * 1024**2
"""As much as a server takes unless it is set otherwise (`STILLROOM_MAX_UPLOAD_BYTES`)."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""Leads to the IPv4 address in its end (RFC 6052)."""

_MAX_HOPS: Final = 5
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NO_IMAGES: Final = ("text/", "application/json", "application/xml")


@contextlib.contextmanager
def fetched(
    url: str, *, max_bytes: int, allow_private: bool, deadline_s: float, timeout_s: float
) -> Iterator[IO[bytes]]:
    """The body of a URL as a file, in memory up to 16 MiB and in a temporary file beyond.

    Raises:
        InvalidParameter: it is no URL that is fetched from.
        ServerUnreachable: there is no answer, or not in time.
        UnexpectedAnswer: another status than 200.
        UnsupportedMedia: a text, and no image.
        TooLarge: it has more than `max_bytes`.
    """
    until = time.monotonic() + deadline_s
    with spool() as file, _client(timeout_s, allow_private=allow_private) as client:
        for _ in range(_MAX_HOPS):
            answer = _answer(client, _parsed(url), allow_private=allow_private)
            with contextlib.closing(answer):
                if answer.status_code not in _REDIRECTS:
                    _receive(answer, file, max_bytes, until)
                    file.seek(0)
                    yield file
                    return
                there = urljoin(url, answer.headers.get("location", ""))
            if url.startswith("https:") and not there.startswith("https:"):
                raise InvalidParameter("redirected to a URL that is not https", at=("url",))
            url = there
        raise UnexpectedAnswer(f"{_parsed(url).host}: redirected more than {_MAX_HOPS} times")


def _client(timeout_s: float, *, allow_private: bool) -> httpx.Client:
    # A proxy would look the name up again, and might find another address than the checked one.
    return httpx.Client(
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10)), trust_env=allow_private
    )


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise InvalidParameter("this is no URL to fetch from", at=("url",)) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidParameter("a URL to fetch from begins with https:// or http://", at=("url",))
    if parsed.userinfo:
        raise InvalidParameter("the URL has a user in it: none is sent", at=("url",))
    return parsed


def _answer(client: httpx.Client, url: httpx.URL, *, allow_private: bool) -> httpx.Response:
    fields = {"accept": "image/*,video/*;q=0.9,*/*;q=0.5", "accept-encoding": "identity"}
    target, extensions = url, {}
    try:
        if not allow_private:
            fields["host"] = url.netloc.decode("ascii")
            target = url.copy_with(host=_public_address(url))
            extensions = {"sni_hostname": url.raw_host.decode("ascii")}
        request = client.build_request("GET", target, headers=fields, extensions=extensions)
        return client.send(request, stream=True)
    except UnicodeError as error:
        raise InvalidParameter("no host has this name", at=("url",)) from error
    except (httpx.TransportError, OSError) as error:
        # The URL itself may hold a signature: only its host is shown.
        raise ServerUnreachable(f"{url.host}: {type(error).__name__}") from error


def _public_address(url: httpx.URL) -> str:
    """An address of the URL's host, all of whose addresses are public.

    Raises:
        InvalidParameter: one is not.
        OSError: there is no such host.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    found = socket.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
    addresses = [str(one[4][0]) for one in found]
    for address in addresses:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if not _is_public(parsed):
            raise InvalidParameter(
                f"{url.host} is not a public address: pass allow_private=True if no stranger has "
                "given the URL",
                at=("url",),
            )
    return addresses[0]


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


def _receive(answer: httpx.Response, file: IO[bytes], max_bytes: int, until: float) -> None:
    host = answer.request.headers.get("host", answer.request.url.host)
    if answer.status_code != 200:
        raise UnexpectedAnswer(f"{host} answers {answer.status_code}")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith(_NO_IMAGES):
        raise UnsupportedMedia(f"{host} sends {kind}, and no image")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnexpectedAnswer(f"{host} sends the image compressed, which was not asked for")
    too_large = TooLarge(f"{host} sends more than {max_bytes} bytes: pass a larger max_bytes")
    declared = answer.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise too_large
    size = 0
    try:
        for chunk in answer.iter_raw():
            size += len(chunk)
            if size > max_bytes:
                raise too_large
            if time.monotonic() > until:
                raise ServerUnreachable(f"{host} sends too slowly")
            file.write(chunk)
    except httpx.TransportError as error:
        raise ServerUnreachable(f"{host} broke off: {type(error).__name__}") from error
