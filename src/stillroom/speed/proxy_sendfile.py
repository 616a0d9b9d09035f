"""Support for letting nginx send large images, with the header `X-Accel-Redirect` (docs/adr/0027).

If the proxy has offered to send files and has sent the configured key, the response contains the
name of the opened file instead of its bytes. If nginx would send a different response than
`http.serving` computes, Stillroom sends the bytes itself.
"""

import hmac
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from stillroom.speed.capabilities import PinsNames
from stillroom.store.http.fields import Fields
from stillroom.store.http.serving import ImageAnswer
from stillroom.store.values import OpenedImage

OFFER: Final = "x-stillroom-sendfile"  # request header of a proxy that can send files: the key
LOCATION: Final = "/.stillroom-sendfile/"  # internal URL path in the nginx configuration
MIN_BYTES: Final = 64 * 1024  # Stillroom sends smaller bodies faster than nginx (`make bench`)

_SIMPLE_RANGE: Final = re.compile(r"(bytes=(\d{1,18}-\d{0,18}|-\d{1,18}))?", re.ASCII)
"""Range headers that nginx parses in the same way as `http.serving`, or no header."""

# Request headers that nginx would compare with its own ETag instead of Stillroom's.
_UNSUPPORTED_CONDITIONS: Final = frozenset(("if-match", "if-unmodified-since"))
_HEADERS_OF_NGINX: Final = {
    HTTPStatus.OK: frozenset(("content-length", "accept-ranges")),
    HTTPStatus.PARTIAL_CONTENT: frozenset(("content-length", "content-range")),
}
"""Response headers, by status code, that Stillroom omits because nginx adds its own."""


@dataclass(frozen=True, slots=True)
class ProxySendfile:
    """`BodyDelegate` that lets nginx send response bodies.

    The proxy authenticates with `key`. Otherwise, any client could request a response without a
    body, and a cache between client and server could store it.
    """

    storage: PinsNames  # storage that can name its opened files for nginx
    key: bytes

    def can_delegate(self, fields: Fields, answer: ImageAnswer) -> bool:
        """Return whether the proxy offered to send files and would send the same response."""
        offered, requested_range = fields.get(OFFER), fields.get("range")
        if offered is None or answer.length < MIN_BYTES:
            return False
        if not _UNSUPPORTED_CONDITIONS.isdisjoint(fields):
            return False
        expected = HTTPStatus.OK if requested_range is None else HTTPStatus.PARTIAL_CONTENT
        is_equal = answer.status == expected and _SIMPLE_RANGE.fullmatch(requested_range or "")
        return bool(is_equal) and hmac.compare_digest(offered.encode("utf-8", "replace"), self.key)

    async def delegate(
        self, fields: Fields, answer: ImageAnswer, image: OpenedImage
    ) -> ImageAnswer | None:
        """Return a response to which nginx adds the body, or None if Stillroom must send it."""
        if not self.can_delegate(fields, answer):
            return None
        name = await self.storage.pinned_name(image)
        return None if name is None else without_body(answer, name)


def without_body(answer: ImageAnswer, name: str) -> ImageAnswer:
    """Copy a response, with headers that make nginx send the file `name` as the body."""
    removed = _HEADERS_OF_NGINX[HTTPStatus(answer.status)]
    headers = [(field, value) for field, value in answer.headers if field not in removed]
    headers += [("content-length", "0"), ("x-accel-redirect", f"{LOCATION}{name}")]
    return ImageAnswer(answer.status, headers)
