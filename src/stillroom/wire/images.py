"""JSON response of the operations that save an image."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from stillroom.wire.shown import API_EXAMPLE, ETAG_EXAMPLE, PATH_EXAMPLE, SHA256_EXAMPLE, Shown


@dataclass(frozen=True, slots=True)
class SavedImage:
    """Image that was saved, with its URL.

    Attributes:
        url: Public URL of the image if the server is configured for it, otherwise its API URL.
            Always the API URL if `skipped` is True.
        size: Size in bytes.
        sha256: Hexadecimal SHA-256 of the bytes; None if unknown.
        etag: ETag including its quotes, as `if_match` requires.
        skipped: True if identical bytes were already stored, so that nothing was sent.
        expires_at: Expiration time (timezone-aware); None if the image does not expire.
    """

    path: Annotated[str, Shown(examples=(PATH_EXAMPLE,))]
    url: Annotated[str, Shown(examples=(f"{API_EXAMPLE}/storage/images/{PATH_EXAMPLE}",))]
    size: Annotated[int, Shown("bytes", (1_258_291,))]
    content_type: Annotated[str, Shown(examples=("image/png",))]
    sha256: Annotated[str | None, Shown("hexadecimal", (SHA256_EXAMPLE,))]
    etag: Annotated[str, Shown("with its quotes, ready for If-Match", (ETAG_EXAMPLE,))]
    skipped: bool = False
    expires_at: Annotated[
        datetime | None,
        Shown("expiration, if the request has `Expires-In`", ("2026-12-01T15:00:00+00:00",)),
    ] = None
