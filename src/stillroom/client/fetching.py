"""Download of an image from the URL of another server, for `ImageStore.save_url`.

The URL may be untrusted. To prevent server-side request forgery, non-public addresses are rejected
(also after a redirect), and the connection uses exactly the address that was checked.
"""

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final, Self
from urllib.parse import urljoin

import httpx

from stillroom.client.errors import ServerUnreachable, UnexpectedAnswer
from stillroom.client.retries import Retries
from stillroom.client.sources import spool
from stillroom.errors import InvalidParameter, TooLarge, UnsupportedMedia

MAX_BYTES: Final = 100 * 1024**2
"""Default size limit, the same as the server's default for `STILLROOM_MAX_UPLOAD_BYTES`."""

_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""Global unicast addresses: https://www.iana.org/assignments/ipv6-address-space/"""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last 32 bits are an IPv4 address (RFC 6052)."""

_MAX_HOPS: Final = 5


@contextlib.contextmanager
def fetched(
    url: str, retries: Retries, *, max_bytes: int, allow_private: bool
) -> Iterator[IO[bytes]]:
    """Context manager: download a URL (see `ImageStore.save_url`) and yield the body as a file.

    `retries.deadline_s` limits the whole download, `retries.timeout_s` each read or write.

    Raises:
        InvalidParameter: The URL is not allowed.
        ServerUnreachable: The connection failed, or the deadline has passed.
        UnexpectedAnswer: The status of the response is not 200, or its body is compressed.
        UnsupportedMedia: The response is text, JSON or XML.
        TooLarge: The image has more than `max_bytes`.
    """
    limits = httpx.Timeout(retries.timeout_s, connect=min(retries.timeout_s, 10))
    with spool() as file:
        with (
            _Deadline(retries.deadline_s) as deadline,
            # A proxy would resolve the name again, possibly to an address that was not checked.
            httpx.Client(timeout=limits, trust_env=allow_private) as client,
        ):
            answer = _follow(client, url, deadline, allow_private=allow_private)
            with contextlib.closing(answer):
                _receive(answer, file, max_bytes, deadline)
        file.seek(0)
        yield file


def _follow(
    client: httpx.Client, url: str, deadline: "_Deadline", *, allow_private: bool
) -> httpx.Response:
    for _ in range(_MAX_HOPS):
        here = _parsed(url)
        answer = _answer(client, here, deadline, allow_private=allow_private)
        if answer.status_code not in (301, 302, 303, 307, 308):
            return answer
        answer.close()
        url = urljoin(url, answer.headers.get("location", ""))
        if here.scheme == "https" and _parsed(url).scheme != "https":
            raise InvalidParameter("the URL redirects to a URL that is not https", at=("url",))
    raise UnexpectedAnswer(f"{_parsed(url).host}: the URL redirects more than {_MAX_HOPS} times")


class _Deadline:
    """Timer that closes a download's connections at the deadline, even if bytes keep arriving."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for watched in self._sockets:
            watched.close()

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Handle a trace event of httpcore (https://www.encode.io/httpcore/extensions/#trace)."""
        if event == "connection.connect_tcp.complete":
            # Duplicate the descriptor, because TLS takes ownership of the original.
            self._sockets.append(info["return_value"].get_extra_info("socket").dup())
            if self.is_over:
                self._end()

    def _end(self) -> None:
        self.is_over = True
        for watched in tuple(self._sockets):
            with contextlib.suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise InvalidParameter("this is not a valid URL", at=("url",)) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidParameter("the URL must begin with https:// or http://", at=("url",))
    if parsed.userinfo:
        raise InvalidParameter("the URL contains a user name: remove it", at=("url",))
    return parsed


def _answer(
    client: httpx.Client, url: httpx.URL, deadline: _Deadline, *, allow_private: bool
) -> httpx.Response:
    fields = {"accept": "image/*,video/*;q=0.9,*/*;q=0.5", "accept-encoding": "identity"}
    target = url
    extensions: dict[str, Any] = {"trace": deadline.watch}
    try:
        if not allow_private:
            fields["host"] = url.netloc.decode("ascii")
            target = url.copy_with(host=_public_address(url))
            extensions["sni_hostname"] = url.raw_host.decode("ascii")
        request = client.build_request("GET", target, headers=fields, extensions=extensions)
        return client.send(request, stream=True)
    except UnicodeError as error:
        raise InvalidParameter("the host name in the URL is invalid", at=("url",)) from error
    except (httpx.TransportError, OSError) as error:
        # The URL may contain a signature, so the message contains only the host.
        why = "no response before the deadline" if deadline.is_over else type(error).__name__
        raise ServerUnreachable(f"cannot download from {url.host}: {why}") from error


def _public_address(url: httpx.URL) -> str:
    """Resolve the host of a URL. Raise `InvalidParameter` if any of its addresses is not public."""
    port = url.port or (443 if url.scheme == "https" else 80)
    resolved = socket.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in resolved]
    parsed = (ipaddress.ip_address(address.partition("%")[0]) for address in addresses)
    if not all(map(_is_public, parsed)):
        raise InvalidParameter(
            f"{url.host} is not a public address: pass allow_private=True if you trust the "
            "source of the URL",
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
        if address.teredo is not None or address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast


def _receive(answer: httpx.Response, file: IO[bytes], max_bytes: int, deadline: _Deadline) -> None:
    host = answer.request.headers.get("host", answer.request.url.host)
    if answer.status_code != 200:
        raise UnexpectedAnswer(
            f"{host} responded with the status {answer.status_code} instead of an image"
        )
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith(("text/", "application/json", "application/xml")):
        raise UnsupportedMedia(f"{host} sent {kind} instead of an image")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnexpectedAnswer(f"{host} sends the image compressed, which was not requested")
    too_large = TooLarge(f"{host} sends more than {max_bytes} bytes: pass a larger max_bytes")
    declared = answer.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise too_large
    size, interruption = 0, None
    try:
        for chunk in answer.iter_raw():
            size += len(chunk)
            if size > max_bytes:
                raise too_large
            file.write(chunk)
    except httpx.TransportError as error:
        interruption = error
    if deadline.is_over or interruption:  # without a length, a cut-off body seems to be complete
        why = f"the connection was interrupted ({type(interruption).__name__})"
        if deadline.is_over:
            why = "the image was not complete before the deadline"
        raise ServerUnreachable(f"cannot download from {host}: {why}") from interruption
