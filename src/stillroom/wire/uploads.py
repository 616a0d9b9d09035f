"""JSON response with an upload grant."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from stillroom.wire.shown import API_EXAMPLE, TIME_EXAMPLE, Shown

_URL_EXAMPLE: Final = f"{API_EXAMPLE}/storage/upload-grants/0f8e…?size=…&signature=…"
_HEADERS_EXAMPLE: Final = {"Content-Type": "image/png"}


@dataclass(frozen=True, slots=True)
class UploadGrant:
    """Permission for one upload, which needs no token.

    Send the file to `url` with `method` and exactly these `headers`. Then complete the upload with
    the text `grant` before `expires_at` (timezone-aware).
    """

    method: Annotated[str, Shown("always `PUT`", ("PUT",))]
    url: Annotated[str, Shown("URL of the bucket or of this server", (_URL_EXAMPLE,))]
    headers: Annotated[Mapping[str, str], Shown("send exactly these", (_HEADERS_EXAMPLE,))]
    grant: Annotated[str, Shown("opaque", ("0f8e…?path=…&signature=…",))]
    expires_at: Annotated[datetime, Shown("", (TIME_EXAMPLE,))]
