"""Migration report: one outcome per image, and counts."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_MAX_PROBLEMS: Final = 10_000  # in the report; further problems are only counted


class MigrationOutcome(StrEnum):
    """Result of migrating one image."""

    COPIED = "copied"  # the image was missing in the target and was copied
    REPLACED = "replaced"  # the target had an older image, which was replaced
    SAME = "same"  # the target already has an image with the same hash
    DIFFERS = "differs"  # the target has a different image that is not older; it was kept
    FAILED = "failed"  # the image could not be copied
    STRAY = "stray"  # an unexpected file in the source that is not an image; not a problem
    EXTRA = "extra"  # only the target has the image: deleted in the source, or saved later


PROBLEMS: Final = frozenset((MigrationOutcome.DIFFERS, MigrationOutcome.FAILED))
_NO_IMAGES_OF_THE_SOURCE: Final = frozenset((MigrationOutcome.STRAY, MigrationOutcome.EXTRA))


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Line in the migration report: the outcome for one image or one unexpected file."""

    outcome: MigrationOutcome
    name: str
    size: int = 0  # number of bytes, if the outcome is `copied`, `replaced` or `same`
    sha256: str = ""
    detail: str = ""  # the problem, for other outcomes


@dataclass
class MigrationStats:
    """Counts and problems of a migration so far."""

    images: int = 0  # number of images compared or copied
    size: int = 0  # number of bytes copied
    counts: Counter[MigrationOutcome] = field(default_factory=Counter)
    problems: list[ProgressEvent] = field(default_factory=list)  # with unexpected and extra files
    _problem_names: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def wrong(self) -> int:
        """Number of source images that have no identical copy in the target."""
        return sum(self.counts[outcome] for outcome in PROBLEMS)

    @property
    def reported(self) -> int:
        """Number of problems, unexpected files and extra images."""
        return self.wrong + sum(self.counts[outcome] for outcome in _NO_IMAGES_OF_THE_SOURCE)

    def note(self, event: ProgressEvent) -> None:
        """Count an event. Add problems, unexpected files and extra images to `problems`."""
        if event.outcome in PROBLEMS:
            if event.name in self._problem_names:
                return  # already counted before the row transfer retried this image
            if len(self._problem_names) < _MAX_PROBLEMS:
                self._problem_names.add(event.name)
        self.counts[event.outcome] += 1
        if event.outcome not in _NO_IMAGES_OF_THE_SOURCE:
            self.images += 1
        if event.outcome in PROBLEMS | _NO_IMAGES_OF_THE_SOURCE:
            if len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(event)
        elif event.outcome is not MigrationOutcome.SAME:
            self.size += event.size
