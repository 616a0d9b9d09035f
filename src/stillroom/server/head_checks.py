"""Checks of a request head: version, size, Host, target, and framing against request smuggling."""

import re
from typing import TYPE_CHECKING, Final

from stillroom.server.bounds import Bounds

if TYPE_CHECKING:
    import httptools

_TARGET: Final = re.compile(rb"(?:http://[^/?#]*)?/[\x21\x22\x24-\x7e]*", re.IGNORECASE)
"""Origin form or absolute form, ASCII, without a fragment."""


def fault_of_head(
    parser: "httptools.HttpRequestParser",
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    bounds: Bounds,
) -> tuple[int, str] | None:
    """Status and message of the refusal of a complete head; None: nothing is wrong with it.

    Args:
        parser: For the version, and whether an upgrade is offered.
        target: As it came.
        headers: Their names in lower case.
        bounds: Of the head's size.
    """
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        return 400, "another version of HTTP: send 1.1 or 1.0"
    names = [name for name, _ in headers]
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if len(names) > bounds.header_fields or size > bounds.head_bytes:
        return 431, "the head of the request is too large, or has too many fields"
    hosts = names.count(b"host")
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        return 400, "exactly one Host field is required"
    if not _TARGET.fullmatch(target):
        return 400, "the request target is not an ASCII path"
    return _fault_of_framing(parser, names, headers)


def _fault_of_framing(
    parser: "httptools.HttpRequestParser", names: list[bytes], headers: list[tuple[bytes, bytes]]
) -> tuple[int, str] | None:
    lengths = names.count(b"content-length")
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if lengths > 1 or (lengths and codings):
        return 400, "the length of the body is declared twice"
    if codings and (codings != [b"chunked"] or parser.get_http_version() == "1.0"):
        return 400, "the only transfer coding is chunked, and only in HTTP/1.1"
    if parser.should_upgrade() and (lengths or codings):
        # The parser takes no body behind an Upgrade, and would read it as a request.
        return 400, "a body cannot follow an offer to upgrade: leave out the Upgrade field"
    return None
