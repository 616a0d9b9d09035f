"""What the SDK gives back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

from stillroom.client.encoding import Encoding
from stillroom.client.lifetime import Lifetime
from stillroom.errors import StillroomError
from stillroom.generation.ai_mark import AiMark
from stillroom.generation.facts import Generation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SavedImage:
    """What was stored, and where to find it.

    Attributes:
        url: Public, if the server's settings make it so; of a skipped image, the API's.
        size: Bytes.
        sha256: Hexadecimal.
        etag: With its quotes, ready for `if_match`.
        skipped: Whether the same bytes were there already, so that nothing was sent.
        expires_at: When it goes, aware; None: it stays.
    """

    path: str
    url: str
    size: int
    content_type: str
    sha256: str | None
    etag: str
    skipped: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DownloadedImage:
    """An image that is in a file now.

    Attributes:
        skipped: Whether the same bytes were there already, so that nothing was fetched.
    """

    path: str
    file: Path
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of a stored image.

    Attributes:
        size: Bytes.
        modified: When it was saved, aware; from `stat` in whole seconds.
        etag: With its quotes, ready for `if_match`.
        sha256: Hexadecimal; None where it has not been hashed.
        ai_mark: Whether the image itself says that AI made it: `c2pa`, `iptc`, `both` or `none`;
            None where that cannot be told, or is not known yet. Not compared, as that may change.
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
    """What is known of a stored image, and how it was made.

    Attributes:
        generation: None where no tool has written anything that is known.
        expires_at: When it goes, aware; None: it stays, or that is not known, as in a search.
    """

    generation: Generation | None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies one level deeper; `path` ends in a slash."""

    path: str


@dataclass(frozen=True, slots=True)
class MediaResource:
    """An image or video of the media library; the OpenAPI document describes each field.

    Attributes:
        source_key: Where it was first ingested from; None where the server does not know it.
        duration: Seconds, of a video.
        dominant_color: `#rrggbb`; None until the server has computed it, and where it cannot.
        tags: Sorted.
        ai_mark: `c2pa`, `iptc`, `both` or `none`; None where it was not looked at, or cannot be
            told.
        generation: How it was made, without `raw`; None where nothing is known.
        url: Where the bytes are served.
    """

    id: str
    resource_type: str
    storage_key: str
    content_hash: str
    extension: str
    content_type: str
    file_size: int
    width: int | None
    height: int | None
    color_profile: str | None
    protected: bool
    alt_text: str | None
    caption: str | None
    created_at: datetime
    source_key: str | None = None
    duration: float | None = None
    dominant_color: str | None = None
    tags: tuple[str, ...] = ()
    url: str | None = None
    ai_mark: AiMark | None = None
    generation: Generation | None = None


class ResourceChanges(TypedDict, total=False):
    """What can be changed of a `MediaResource`; None takes a value away, if it may be None."""

    alt_text: str | None
    caption: str | None
    protected: bool
    dominant_color: str | None
    width: int
    height: int
    duration: float | None
    color_profile: str | None


class FactsFilters(TypedDict, total=False):
    """What an image must say of how it was made; see docs/search.md.

    Attributes:
        prompt: Words in the prompt; in double quotes they follow each other.
        model: Words of its name that follow each other.
        lora: The same of the name of a LoRA.
        sampler: Its whole name, in any case.
        seed: 0 to 2**64 - 1.
        tool: Its whole name, in any case.
        ai_mark: Whether it says that AI made it; `none` finds those that do not.
    """

    prompt: str
    model: str
    lora: str
    sampler: str
    seed: int
    tool: str
    ai_mark: AiMark


class ResourceFilters(FactsFilters, total=False):
    """Which resources are listed; all of these must hold.

    `q` has words of how they were made, as in a search.
    `tag` is a tag, or with a `-` ahead one that they must not have; or several such.
    `source_key` is where they were first ingested from, such as `compute/a.png`, or several such.
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
    """How far the server has come with computing what is missing.

    Attributes:
        total: Resources of which something was missing.
        waiting: Resources of the whole library that still wait.
    """

    total: int
    waiting: int

    @property
    def done(self) -> int:
        """Of `total`."""
        return max(0, self.total - self.waiting)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the bytes of one image are; after a failure it may go back.

    Attributes:
        done: Bytes sent or received.
        total: Bytes in all, None where the server has not said.
    """

    path: str
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


class SaveOptions(Encoding, total=False):
    """What `ImageStore.save` takes beside the path and the source."""

    if_match: str | None
    if_none_match: str | None
    unique: bool
    generation: Generation | Mapping[str, Any] | None
    ai_generated: bool
    expires_in: Lifetime | None
    progress: OnProgress | None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run of a listing.

    Attributes:
        folder: Where its images are.
        state: `published` or `open`.
        published_at: Aware; None while it is open.
        count: Images in its manifest; None while it is open.
        expires_at: When a rule of retention ends it, aware; None: none does, or that depends on
            newer runs.
    """

    folder: str
    state: str
    published_at: datetime | None
    count: int | None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunImage:
    """An image of a run, as its manifest has it; `sha256` is hexadecimal."""

    path: str
    size: int
    content_type: str
    sha256: str
    etag: str


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A run with its images; `published_at` is None of one that is still open."""

    folder: str
    state: str
    published_at: datetime | None
    count: int
    images: Sequence[RunImage]


@dataclass(frozen=True, slots=True)
class DeletedRun:
    """What became of a run's images.

    Attributes:
        marked: They go when the grace period is over.
        kept: They stay, since the library has recorded them in place.
        newer: They stay, since they were saved after the deletion was asked for.
    """

    folder: str
    marked: int
    kept: int
    newer: int


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one of many: `error` is None, or `result` is."""

    path: str
    result: T | None = None
    error: StillroomError | OSError | None = None
