"""The report of a migration: an outcome for each image, and the counts."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_MAX_PROBLEMS: Final = 10_000
"""Kept for the report; more are counted."""


class MigrationOutcome(StrEnum):
    """The outcome of one image."""

    COPIED = "copied"
    """It was missing in the target, and was copied."""

    REPLACED = "replaced"
    """The target had an older image, and it was replaced."""

    SAME = "same"
    """The target has the same bytes already, by their hash."""

    DIFFERS = "differs"
    """The target has other bytes that are not older; they were kept."""

    FAILED = "failed"
    """It could not be copied."""

    STRAY = "stray"
    """An unexpected file of the source that is no image. No problem, but reported."""

    EXTRA = "extra"
    """Only the target has it: deleted in the source since, or saved in the target."""


PROBLEMS: Final = frozenset((MigrationOutcome.DIFFERS, MigrationOutcome.FAILED))
_NO_IMAGES_OF_THE_SOURCE: Final = frozenset((MigrationOutcome.STRAY, MigrationOutcome.EXTRA))


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One line of the report.

    Attributes:
        name: The key, or the name of an unexpected file.
        size: Bytes, if it was copied, replaced or the same.
        sha256: In hexadecimal, of the same images.
        detail: What is wrong, in a sentence.
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
        images: Compared or copied.
        size: Bytes copied.
        counts: Images by outcome.
        problems: The first 10,000 problems, unexpected files and extras.
    """

    images: int = 0
    size: int = 0
    counts: dict[MigrationOutcome, int] = field(default_factory=dict)
    problems: list[ProgressEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._noted: set[str] = set()

    @property
    def wrong(self) -> int:
        """Images of the source that are not in the target."""
        return sum(self.counts.get(outcome, 0) for outcome in PROBLEMS)

    @property
    def reported(self) -> int:
        """How many problems, unexpected files and extras there are, also beyond `problems`."""
        return self.wrong + sum(self.counts.get(one, 0) for one in _NO_IMAGES_OF_THE_SOURCE)

    def note(self, event: ProgressEvent) -> None:
        """Count an event, and keep it if an operator has to look at it."""
        if event.outcome in PROBLEMS:
            if event.name in self._noted:
                return  # its row has tried it again
            if len(self._noted) < _MAX_PROBLEMS:
                self._noted.add(event.name)
        self.counts[event.outcome] = self.counts.get(event.outcome, 0) + 1
        if event.outcome not in _NO_IMAGES_OF_THE_SOURCE:
            self.images += 1
        if event.outcome in PROBLEMS | _NO_IMAGES_OF_THE_SOURCE:
            if len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(event)
        elif event.outcome is not MigrationOutcome.SAME:
            self.size += event.size
