"""Migration report: one outcome per image, and counts."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_MAX_PROBLEMS: Final = 10_000
"""Maximum number of problems in the report. Further problems are only counted."""


class MigrationOutcome(StrEnum):
    """Result of migrating one image."""

    COPIED = "copied"
    """The image was missing in the target and was copied."""

    REPLACED = "replaced"
    """The target had an older image, which was replaced."""

    SAME = "same"
    """The target already has an image with the same hash."""

    DIFFERS = "differs"
    """The target has a different image that is not older. It was kept."""

    FAILED = "failed"
    """The image could not be copied."""

    STRAY = "stray"
    """The source contains an unexpected file that is not an image. This is not a problem."""

    EXTRA = "extra"
    """Only the target has the image: it was deleted in the source, or saved to the target."""


PROBLEMS: Final = frozenset((MigrationOutcome.DIFFERS, MigrationOutcome.FAILED))
_NO_IMAGES_OF_THE_SOURCE: Final = frozenset((MigrationOutcome.STRAY, MigrationOutcome.EXTRA))


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One line in the migration report.

    Attributes:
        name: Key of the image, or name of an unexpected file.
        size: Size in bytes, for the outcomes copied, replaced and same.
        sha256: Hexadecimal hash, for the outcomes copied, replaced and same.
        detail: Description of the problem in one sentence.
    """

    outcome: MigrationOutcome
    name: str
    size: int = 0
    sha256: str = ""
    detail: str = ""


@dataclass
class MigrationStats:
    """Counts and problems of a migration so far.

    Attributes:
        images: Number of images compared or copied.
        size: Number of bytes copied.
        counts: Number of images by outcome.
        problems: The first 10,000 problems, unexpected files and images missing in the source.
    """

    images: int = 0
    size: int = 0
    counts: dict[MigrationOutcome, int] = field(default_factory=dict)
    problems: list[ProgressEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._problem_names: set[str] = set()

    @property
    def wrong(self) -> int:
        """Number of images in the source that are missing in the target."""
        return sum(self.counts.get(outcome, 0) for outcome in PROBLEMS)

    @property
    def reported(self) -> int:
        """Number of all problems, unexpected files and extra images, even if not in `problems`."""
        return self.wrong + sum(self.counts.get(outcome, 0) for outcome in _NO_IMAGES_OF_THE_SOURCE)

    def note(self, event: ProgressEvent) -> None:
        """Count an event. If an operator must check it, add it to `problems`."""
        if event.outcome in PROBLEMS:
            if event.name in self._problem_names:
                return  # already counted before the row transfer retried this image
            if len(self._problem_names) < _MAX_PROBLEMS:
                self._problem_names.add(event.name)
        self.counts[event.outcome] = self.counts.get(event.outcome, 0) + 1
        if event.outcome not in _NO_IMAGES_OF_THE_SOURCE:
            self.images += 1
        if event.outcome in PROBLEMS | _NO_IMAGES_OF_THE_SOURCE:
            if len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(event)
        elif event.outcome is not MigrationOutcome.SAME:
            self.size += event.size
