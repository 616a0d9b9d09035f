"""JSON responses about runs. A run is a folder of images that are published together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from stillroom.wire.shown import (
    ETAG_EXAMPLE,
    FOLDER_EXAMPLE,
    ID_EXAMPLE,
    SHA256_EXAMPLE,
    TIME_EXAMPLE,
    Shown,
)

_Folder = Annotated[str, Shown(examples=(FOLDER_EXAMPLE,))]
_PublishedAt = Annotated[datetime | None, Shown("null while it is open", (TIME_EXAMPLE,))]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Run (folder of images that are published together) in a listing.

    `state` is `published` or `open` (not yet published). Times are timezone-aware; a time is None
    if it is unknown.
    """

    folder: _Folder
    state: str
    published_at: _PublishedAt
    count: Annotated[int | None, Shown("images in its manifest; null while it is open", (4,))]
    expires_at: Annotated[
        datetime | None,
        Shown(
            "when it expires under a retention rule; null if it does not, or if this is unknown "
            "(it depends on newer runs, or the database is unavailable)",
            ("2026-12-24T15:00:00+00:00",),
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class RunImage:
    """Image of a run, as listed in the run's manifest; `sha256` is hexadecimal."""

    path: Annotated[str, Shown(examples=(f"{FOLDER_EXAMPLE}/cat.png",))]
    size: Annotated[int, Shown("bytes", (1_258_291,))]
    content_type: Annotated[str, Shown(examples=("image/png",))]
    sha256: Annotated[str, Shown("hexadecimal", (SHA256_EXAMPLE,))]
    etag: Annotated[
        str, Shown("with its quotes, as it was when the run was published", (ETAG_EXAMPLE,))
    ]


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """Run with a list of its images. `published_at` is None if the run is not published yet."""

    folder: _Folder
    state: str
    published_at: _PublishedAt
    count: Annotated[int, Shown("images", (4,))]
    images: Sequence[RunImage]


@dataclass(frozen=True, slots=True)
class DeletedRun:
    """Result of deleting a run, with the numbers of its deleted and kept images."""

    folder: _Folder
    marked: Annotated[
        int,
        Shown(
            "images that are in the trash, or deleted after the grace period, unless they are "
            "ingested or saved again",
            (4,),
        ),
    ]
    kept: Annotated[int, Shown("images that are kept because the library records them in place")]
    newer: Annotated[int, Shown("images that are kept because they were saved after the request")]
    trash_id: Annotated[str | None, Shown("id in the trash, if it is there", (ID_EXAMPLE,))] = None
