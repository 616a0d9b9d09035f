"""Report of a migration: an outcome per image, and counts."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_MAX_PROBLEMS: Final = 10_000
"""Problems kept for the report; more are only counted."""


class MigrationOutcome(StrEnum):
    """Outcome for one image."""

    COPIED = "copied"
    """The image was missing in the target and was copied."""

    REPLACED = "replaced"
    """The target had an older image, which was replaced."""

    SAME = "same"
    """The target already has the same bytes, according to their hash."""

    DIFFERS = "differs"
    """The target has different bytes that are not older; they were kept."""

    FAILED = "failed"
    """The image could not be copied."""

    STRAY = "stray"
    """An unexpected file of the source that is not an image. Not a problem, but reported."""

    EXTRA = "extra"
    """Only the target has the image: deleted in the source since, or saved in the target."""


PROBLEMS: Final = frozenset((MigrationOutcome.DIFFERS, MigrationOutcome.FAILED))
_NO_IMAGES_OF_THE_SOURCE: Final = frozenset((MigrationOutcome.STRAY, MigrationOutcome.EXTRA))


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Line of the report.

    Attributes:
        name: The key, or the name of an unexpected file.
        size: Bytes, for the outcomes copied, replaced and same.
        sha256: In hexadecimal, for the same outcomes.
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
        images: Images compared or copied.
        size: Bytes copied.
        counts: Images by outcome.
        problems: The first 10,000 problems, unexpected files and extras.
    """

    images: int = 0
    size: int = 0
    counts: dict[MigrationOutcome, int] = field(default_factory=dict)
    problems: list[ProgressEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._problem_names: set[str] = set()

    @property
    def wrong(self) -> int:
        """Number of images of the source that are not in the target."""
        return sum(self.counts.get(outcome, 0) for outcome in PROBLEMS)

    @property
    def reported(self) -> int:
        """Number of problems, unexpected files and extras, including those beyond `problems`."""
        return self.wrong + sum(self.counts.get(outcome, 0) for outcome in _NO_IMAGES_OF_THE_SOURCE)

    def note(self, event: ProgressEvent) -> None:
        """Count an event, and keep it if an operator must look at it."""
        if event.outcome in PROBLEMS:
            if event.name in self._problem_names:
                return  # counted before: the transfer of its row retried it
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
