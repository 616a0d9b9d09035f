"""Data type of a planted fault."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A fault to plant into the code.

    Attributes:
        name: What is wrong.
        file: Path below src/stillroom.
        old: The text to replace, which occurs exactly once.
        new: The text with the fault.
        tests: Arguments for pytest: files, and `-k` with its expression.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
