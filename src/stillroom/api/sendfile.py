"""Large images whose bytes nginx sends itself: `X-Accel-Redirect`, see docs/adr/0027.

The operation decides as ever: rights, conditions and the slice. Then, where the proxy has offered
it with the key of the settings, the answer names the opened save in place of carrying its bytes.
nginx has nothing left to decide: what it would judge otherwise than `http.serving` is sent from
here.
"""

import hmac
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fastapi import Response

from stillroom.api.responses import ImageResponse
from stillroom.http.fields import Fields
from stillroom.http.serving import ImageAnswer, answer_image
from stillroom.storage.capabilities import PinsNames
from stillroom.storage.values import OpenedImage

OFFER: Final = "x-stillroom-sendfile"
"""The request's field by which the proxy says that it can send, with the key as its value."""

LOCATION: Final = "/.stillroom-sendfile/"
"""Of nginx's configuration, internal there; no path of this API begins with it."""

MIN_BYTES: Final = 64 * 1024
"""Smaller bodies cost a proxy less to copy than to open (`make bench`)."""

_SIMPLE_RANGE: Final = re.compile(r"bytes=(\d{1,18}-\d{0,18}|-\d{1,18})", re.ASCII)
"""What nginx reads as `http.serving` does."""

_JUDGED_OTHERWISE: Final = frozenset(("if-match", "if-unmodified-since"))
"""nginx compares these with an ETag of its own, before ours is added."""

_SAID_BY_NGINX: Final = {
    HTTPStatus.OK: frozenset(("content-length", "accept-ranges")),
    HTTPStatus.PARTIAL_CONTENT: frozenset(("content-length", "content-range")),
}
"""By status: nginx adds these to what it sends, a second time where they are there already."""


@dataclass(frozen=True, slots=True)
class ProxySendfile:
    """Answers that name an image for nginx to send.

    Attributes:
        storage: Whose images.
        key: What the proxy must show. Without it, any client could have an answer without a
            body, and a cache on the way could keep that.
    """

    storage: PinsNames
    key: bytes

    def suits(self, fields: Fields, answer: ImageAnswer) -> bool:
        """Whether nginx, and it alone, would send exactly the slice of this answer."""
        offered = fields.get(OFFER)
        if offered is None or answer.length < MIN_BYTES or not _JUDGED_OTHERWISE.isdisjoint(fields):
            return False
        asked = fields.get("range")
        if asked is None:
            is_whole = answer.status == HTTPStatus.OK
        else:
            is_part = answer.status == HTTPStatus.PARTIAL_CONTENT
            is_whole = is_part and _SIMPLE_RANGE.fullmatch(asked) is not None
        return is_whole and hmac.compare_digest(offered.encode("utf-8", "replace"), self.key)

    async def handed_over(
        self, fields: Fields, answer: ImageAnswer, image: OpenedImage
    ) -> ImageAnswer | None:
        """The answer without its body, for nginx to add that; None: it must be sent from here.

        Args:
            fields: Of the request.
            answer: What it would be answered with.
            image: The opened save that the answer is about; it can be closed afterwards.
        """
        if not self.suits(fields, answer):
            return None
        name = await self.storage.pinned_name(image)
        return None if name is None else without_body(answer, name)


def without_body(answer: ImageAnswer, name: str) -> ImageAnswer:
    """The same answer, with the pinned `name` of its image in place of the bytes."""
    dropped = _SAID_BY_NGINX[HTTPStatus(answer.status)]
    headers = [(field, value) for field, value in answer.headers if field not in dropped]
    headers += [("content-length", "0"), ("x-accel-redirect", f"{LOCATION}{name}")]
    return ImageAnswer(answer.status, headers)


async def answered(
    fields: Fields, image: OpenedImage, cache_control: str, sendfile: ProxySendfile | None
) -> Response:
    """The answer to a GET of an opened image, which it closes in the end."""
    try:
        answer = answer_image("GET", fields, image.image, cache_control=cache_control)
        handed = await sendfile.handed_over(fields, answer, image) if sendfile else None
    except BaseException:
        image.close()
        raise
    if handed is not None:
        image.close()
        return ImageResponse(handed)
    return ImageResponse(answer, image)
