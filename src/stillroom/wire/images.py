"""JSON responses about stored images: after a save, in listings and searches, with metadata."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Annotated, Final

from stillroom.wire.generation import AiMark, Generation
from stillroom.wire.shown import (
    API_EXAMPLE,
    LOCAL,
    PATH_EXAMPLE,
    SHA256_EXAMPLE,
    SIGNED_URL_EXAMPLE,
    TIME_EXAMPLE,
    ContentType,
    Etag,
    Shown,
    Size,
)


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
        signed_url: URL that needs no token, until `signed_url_expires_at` (timezone-aware); None if
            `save` was called without `sign`.
    """

    path: Annotated[str, Shown(examples=(PATH_EXAMPLE,))]
    url: Annotated[str, Shown(examples=(f"{API_EXAMPLE}/storage/images/{PATH_EXAMPLE}",))]
    size: Size
    content_type: ContentType
    sha256: Annotated[str | None, Shown("hexadecimal", (SHA256_EXAMPLE,))]
    etag: Etag
    skipped: bool = field(default=False, metadata=LOCAL)
    expires_at: Annotated[
        datetime | None,
        Shown("expiration, if the request has `Expires-In`", ("2026-12-01T15:00:00+00:00",)),
    ] = None
    signed_url: Annotated[
        str | None, Shown("if the request has `Sign-Url`", (SIGNED_URL_EXAMPLE,))
    ] = None
    signed_url_expires_at: Annotated[
        datetime | None, Shown("expiration of `signed_url`", ("2026-12-01T15:00:00+00:00",))
    ] = None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Properties of a stored image.

    Attributes:
        size: Size in bytes.
        modified: Time of the last save (timezone-aware); whole seconds if returned by `stat`.
        etag: ETag including its quotes, as `if_match` requires.
        sha256: Hexadecimal SHA-256; None if the image has not been hashed.
        ai_mark: Kind of embedded metadata which states that AI made the image: `c2pa`, `iptc`,
            `both` or `none`; None if unknown. Ignored in comparisons, because it may become known
            later.
    """

    path: Annotated[
        str, Shown("paths of folders end in a slash, those of images do not", (PATH_EXAMPLE,))
    ]
    size: Size
    modified: Annotated[datetime, Shown("when it was saved", (TIME_EXAMPLE,))]
    content_type: ContentType
    etag: Etag
    sha256: Annotated[
        str | None, Shown("hexadecimal; null also if it is not known", (SHA256_EXAMPLE,))
    ]
    ai_mark: Annotated[
        AiMark | None,
        Shown(
            "mark in the image that AI made it: c2pa (a manifest, not verified), iptc "
            "(DigitalSourceType in XMP), both, none; null if it cannot be determined, or in a "
            "listing is not known yet",
            ("iptc",),
        ),
    ] = field(default=None, kw_only=True, compare=False)


@dataclass(frozen=True, slots=True)
class FoundImage(ImageInfo):
    """Search result: the properties of a stored image, with its generation parameters."""

    generation: Annotated[
        Generation | None, Shown("null if the image contains no metadata of a known tool")
    ]


@dataclass(frozen=True, slots=True)
class ImageMetadata(FoundImage):
    """Properties of a stored image, with its generation parameters, expiration and lineage.

    `expires_at` is timezone-aware.
    """

    expires_at: Annotated[
        datetime | None,
        Shown(
            "when it becomes due for deletion, by its own expiration, its pending deletion or a "
            "retention rule; null if it is kept or this is unknown (it depends on newer runs, or "
            "the database is unavailable)",
            ("2026-12-01T15:00:00+00:00",),
        ),
    ] = None
    derived_from: Annotated[
        tuple[str, ...] | None,
        Shown(
            "paths of images from which it was made that exist now, at most 100; null while the "
            "search index is unavailable or does not contain the image yet",
            ([PATH_EXAMPLE],),
        ),
    ] = None
    derivatives: Annotated[
        int | None,
        Shown(
            "images that were made from it, at most 10,000; null while the search index is "
            "unavailable",
            (3,),
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Folder:
    """Subfolder in a listing; `path` ends in a slash."""

    path: str


ENTRY_FIELDS: Final = tuple(item.name for item in fields(ImageInfo))
"""Names of the fields of a listed image in the order of the JSON. A folder has only a path."""
