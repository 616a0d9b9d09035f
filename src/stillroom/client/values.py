"""Types of the values that the SDK returns or accepts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar

from stillroom.client.encoding import Encoding
from stillroom.errors import StillroomError
from stillroom.generation.facets import FactsFilters
from stillroom.wire.generation import Generation
from stillroom.wire.thumbnails import Fit, Format

T = TypeVar("T")

Lifetime = timedelta | int | str
"""Lifetime: a timedelta, a number of seconds, or a string such as `90s`, `15m`, `12h` or `7d`."""

SearchSort = Literal["-saved", "saved", "-path", "path", "-size", "size"]
RunSort = Literal["folder", "published", "-published"]
RunState = Literal["published", "open"]

Sidecars = Literal["captions"]
"""Kind of files to add to a ZIP: for each image, a text file with the prompt."""


class Picture(TypedDict, total=False):
    """Options for a thumbnail that the server creates: docs/api.md, "Thumbnails"."""

    width: int
    height: int
    fit: Fit
    format: Format
    quality: int


@dataclass(frozen=True, slots=True)
class DownloadedImage:
    """Image in a local file. If `skipped`, the file already had the same bytes."""

    path: str
    file: Path
    skipped: bool = False


class SearchFilters(FactsFilters, total=False):
    """Filters for a search. An image must match all of them; see docs/search.md.

    Times are timezone-aware; `saved_from` is inclusive, and `saved_before` exclusive. `tag` has one
    or several tags in the media library; `-cat` excludes a tag. The order `-saved` is newest first.
    """

    content_type: str
    prefix: str
    saved_from: datetime
    saved_before: datetime
    tag: str | Iterable[str]
    sort: SearchSort


class ResourceChanges(TypedDict, total=False):
    """Fields of a `MediaResource` to change. None removes a value."""

    alt_text: str | None
    caption: str | None
    protected: bool
    dominant_color: str | None
    width: int
    height: int
    duration: float | None
    color_profile: str | None


class ResourceFilters(FactsFilters, total=False):
    """Filters for listing resources. A resource must match all of them.

    Attributes:
        tag: One or several tags that the resource must have; `-cat` excludes a tag.
        source_key: Storage keys such as `compute/a.png`. The resource's source must be one of them.
        source_prefix: Prefix of the storage key of the source or the file, such as `compute/run/`.
        created_from, created_before: Earliest time (inclusive) and latest time (exclusive).
    """

    tag: str | Iterable[str]
    source_key: str | Iterable[str]
    source_prefix: str
    resource_type: str
    content_type: str
    content_hash: str
    created_from: datetime
    created_before: datetime


@dataclass(frozen=True, slots=True)
class HealingProgress:
    """Progress of `MediaLibrary.heal`.

    Attributes:
        total: Number of resources with missing fields at the beginning.
        waiting: Number of resources in the whole library that still have missing fields.
    """

    total: int
    waiting: int

    @property
    def done(self) -> int:
        """Estimated number of resources that are complete."""
        return max(0, self.total - self.waiting)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of sending or receiving one image.

    Attributes:
        done: Number of bytes sent or received. It may decrease after a failed attempt.
        total: Size in bytes; None if the server has not sent it.
    """

    path: str
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


class GrantTerms(TypedDict, total=False):
    """Optional terms of an upload grant.

    Attributes:
        content_type: Content type that the file must have, such as `video/mp4`.
        sha256: Hexadecimal SHA-256 of the file. A bucket records a hash only if this is set.
        if_none_match: `*` to complete the upload only if no image exists under the path.
        expires_in: Time for the upload and its completion: one hour by default, at most seven days.
        expires_after: Lifetime of the image; see `expires_in` of `save`.
    """

    content_type: str | None
    sha256: str | None
    if_none_match: str | None
    expires_in: Lifetime
    expires_after: Lifetime | None


class SaveOptions(Encoding, total=False):
    """Arguments of `ImageStore.save`, except for the path and the source."""

    if_match: str | None
    if_none_match: str | None
    unique: bool
    generation: Generation | Mapping[str, Any] | None
    ai_generated: bool
    expires_in: Lifetime | None
    sign: Lifetime | None
    direct: bool
    progress: OnProgress | None


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """Outcome for one image of a bulk operation. Either `result` or `error` is None."""

    path: str
    result: T | None = None
    error: StillroomError | OSError | None = None
