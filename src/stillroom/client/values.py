"""Types of the values that the SDK returns or accepts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

from stillroom.client.encoding import Encoding
from stillroom.client.lifetime import Lifetime
from stillroom.errors import StillroomError
from stillroom.generation.facets import FactsFilters
from stillroom.wire.generation import Generation
from stillroom.wire.images import Folder, ImageInfo, ImageMetadata, SavedImage
from stillroom.wire.media import MediaResource
from stillroom.wire.runs import DeletedRun, PublishedRun, RunImage, RunInfo

__all__ = ["DeletedRun", "Folder", "ImageInfo", "ImageMetadata", "MediaResource"]
__all__ += ["PublishedRun", "RunImage", "RunInfo", "SavedImage"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DownloadedImage:
    """Image that was downloaded to a file.

    Attributes:
        skipped: True if the file already had identical bytes, so that nothing was downloaded.
    """

    path: str
    file: Path
    skipped: bool = False


class ResourceChanges(TypedDict, total=False):
    """Fields of a `MediaResource` to change. None removes a value; omitted fields are kept."""

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
        tag: One or several tags that the resource must have. A leading `-` excludes a tag.
        source_key: One or several storage keys from which the image was ingested, such as
            `compute/a.png`. One of them must match.
        created_from: Earliest creation time (inclusive).
        created_before: Latest creation time (exclusive).
        q: Words in the generation parameters, as for `ImageStore.search`.
    """

    tag: str | Iterable[str]
    source_key: str | Iterable[str]
    resource_type: str
    content_type: str
    content_hash: str
    created_from: datetime
    created_before: datetime
    q: str


@dataclass(frozen=True, slots=True)
class HealingProgress:
    """Progress of `MediaLibrary.heal`, with which the server computes missing fields of resources.

    Attributes:
        total: Number of resources with missing fields at the beginning.
        waiting: Number of resources in the whole library that still have missing fields.
    """

    total: int
    waiting: int

    @property
    def done(self) -> int:
        """Number of resources that are complete, estimated from `total` and `waiting`."""
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


class SaveOptions(Encoding, total=False):
    """Arguments of `ImageStore.save`, except for the path and the source."""

    if_match: str | None
    if_none_match: str | None
    unique: bool
    generation: Generation | Mapping[str, Any] | None
    ai_generated: bool
    expires_in: Lifetime | None
    progress: OnProgress | None


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """Outcome for one image of a bulk operation. Either `result` or `error` is None."""

    path: str
    result: T | None = None
    error: StillroomError | OSError | None = None
