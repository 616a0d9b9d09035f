"""Return types of the SDK."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

from stillroom.client.encoding import Encoding
from stillroom.client.lifetime import Lifetime
from stillroom.errors import StillroomError
from stillroom.generation.ai_mark import AiMark
from stillroom.generation.facts import Generation
from stillroom.wire.images import SavedImage
from stillroom.wire.media import MediaResource
from stillroom.wire.runs import DeletedRun, PublishedRun, RunImage, RunInfo

__all__ = ["DeletedRun", "MediaResource", "PublishedRun", "RunImage", "RunInfo", "SavedImage"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DownloadedImage:
    """Downloaded image.

    Attributes:
        skipped: True if the file already had identical bytes, so that nothing was downloaded.
    """

    path: str
    file: Path
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Properties of a stored image.

    Attributes:
        size: Size in bytes.
        modified: Time of the last save (timezone-aware); whole seconds if returned by `stat`.
        etag: Etag with its quotes, ready for `if_match`.
        sha256: Hexadecimal digest; None if the image has not been hashed.
        ai_mark: Embedded metadata which states that AI made the image: `c2pa`, `iptc`, `both` or
            `none`; None if unknown. Ignored in comparisons, because it may become known later.
    """

    path: str
    size: int
    modified: datetime
    content_type: str
    etag: str
    sha256: str | None
    ai_mark: AiMark | None = field(default=None, kw_only=True, compare=False)


@dataclass(frozen=True, slots=True)
class ImageMetadata(ImageInfo):
    """Properties of a stored image with its generation parameters.

    Attributes:
        generation: Generation parameters; None if the image contains none in a known format.
        expires_at: Expiration (timezone-aware); None if the image does not expire, or if that is
            unknown, as in search results.
    """

    generation: Generation | None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """Subfolder in a listing; `path` ends in a slash."""

    path: str


class ResourceChanges(TypedDict, total=False):
    """Changes to a `MediaResource`. None removes a value from a nullable field."""

    alt_text: str | None
    caption: str | None
    protected: bool
    dominant_color: str | None
    width: int
    height: int
    duration: float | None
    color_profile: str | None


class FactsFilters(TypedDict, total=False):
    """Filters on generation parameters; see docs/search.md.

    Attributes:
        prompt: Words in the prompt. Words in double quotes form a phrase.
        model: Phrase in the name of the model.
        lora: Phrase in the name of a LoRA.
        sampler: Complete name of the sampler, case-insensitive.
        seed: Seed from 0 to 2**64 - 1.
        tool: Complete name of the tool, case-insensitive.
        ai_mark: AI mark; `none` matches images without a mark.
    """

    prompt: str
    model: str
    lora: str
    sampler: str
    seed: int
    tool: str
    ai_mark: AiMark


class ResourceFilters(FactsFilters, total=False):
    """Filters for listing resources, which must all match.

    `q` contains words in the generation parameters, as in a search.
    `tag` is one or several tags that a resource must have. A leading `-` excludes a tag.
    `source_key` is one or several keys of ingested images, such as `compute/a.png`.
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
    """Progress of the server in computing missing fields of media resources.

    Attributes:
        total: Number of resources with missing fields at the beginning.
        waiting: Number of resources in the whole library that still have missing fields.
    """

    total: int
    waiting: int

    @property
    def done(self) -> int:
        """Number of finished resources, estimated from `total` and `waiting`."""
        return max(0, self.total - self.waiting)


@dataclass(frozen=True, slots=True)
class Progress:
    """Transfer progress of one image.

    Attributes:
        done: Number of bytes sent or received. It may decrease after a failed attempt.
        total: Size in bytes; None if the server has not sent it.
    """

    path: str
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


class SaveOptions(Encoding, total=False):
    """Options of `ImageStore.save`, in addition to path and source."""

    if_match: str | None
    if_none_match: str | None
    unique: bool
    generation: Generation | Mapping[str, Any] | None
    ai_generated: bool
    expires_in: Lifetime | None
    progress: OnProgress | None


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """Outcome for one image of a bulk operation: either `result` or `error` is None."""

    path: str
    result: T | None = None
    error: StillroomError | OSError | None = None
