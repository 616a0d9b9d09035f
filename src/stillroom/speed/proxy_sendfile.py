"""Responses with which nginx sends a large image itself, by `X-Accel-Redirect` (docs/adr/0027).

If nginx has sent the configured key with the request, the response contains the name of the image
file instead of its bytes. Stillroom sends the bytes itself if nginx would respond differently.
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

OFFER: Final = "x-stillroom-sendfile"  # request header with the key, from nginx only
LOCATION: Final = "/.stillroom-sendfile/"  # internal URL path in the nginx configuration
MIN_BYTES: Final = 64 * 1024  # Stillroom sends smaller bodies faster than nginx (`make bench`)

# Range headers that nginx parses in the same way as `http.serving`; empty if there is none.
_SIMPLE_RANGE: Final = re.compile(r"(bytes=(\d{1,18}-\d{0,18}|-\d{1,18}))?", re.ASCII)

# Request headers that nginx would compare with its own ETag instead of Stillroom's.
_UNSUPPORTED_CONDITIONS: Final = frozenset(("if-match", "if-unmodified-since"))
_HEADERS_OF_NGINX: Final = {
    HTTPStatus.OK: frozenset(("content-length", "accept-ranges")),
    HTTPStatus.PARTIAL_CONTENT: frozenset(("content-length", "content-range")),
}
"""Response headers, by status code, that Stillroom omits because nginx adds its own."""


@dataclass(frozen=True, slots=True)
class ProxySendfile:
    """`BodyDelegate` that lets nginx send the bodies of responses."""

    storage: PinsNames  # storage that can name its opened files for nginx
    key: bytes  # authenticates nginx, so that other clients get no response without a body

    def can_delegate(self, fields: Fields, answer: ImageAnswer) -> bool:
        """Return whether nginx forwarded the request and would respond as Stillroom does."""
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
        """Return a response to which nginx adds the body. None if Stillroom must send the body."""
        if not self.can_delegate(fields, answer):
            return None
        name = await self.storage.pinned_name(image)
        return None if name is None else without_body(answer, name)


def without_body(answer: ImageAnswer, name: str) -> ImageAnswer:
    """Return a response without a body, with headers that make nginx send the file `name`."""
    removed = _HEADERS_OF_NGINX[HTTPStatus(answer.status)]
    headers = [(field, value) for field, value in answer.headers if field not in removed]
    headers += [("content-length", "0"), ("x-accel-redirect", f"{LOCATION}{name}")]
    return ImageAnswer(answer.status, headers)
