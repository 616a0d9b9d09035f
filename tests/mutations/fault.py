"""Planted faults, and the notation in which they are written."""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A fault to plant into the code.

    Attributes:
        file: Path below src/stillroom.
        old: The text to replace, which occurs exactly once.
        tests: Arguments for pytest.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def faults(text: str) -> tuple[Fault, ...]:
    """Parse faults that are written like the hunks of a diff, with an empty line between them.

    First comes what is wrong, then the file and the tests that should find it: arguments of pytest,
    its files relative to `tests`. A text of one line may be a part of one.
    """
    return tuple(map(_parsed, text.strip("\n").split("\n\n")))


def _parsed(hunk: str) -> Fault:
    name, *lines = hunk.split("\n")
    head = [line.strip() for line in lines if not line.startswith(("-", "+"))]
    file, *words = shlex.split(" ".join(head))
    old, new = ("\n".join(line[1:] for line in lines if line.startswith(sign)) for sign in "-+")
    tests = tuple(f"tests/{word}" if "/" in word else word for word in words)
    return Fault(name, file.removesuffix(":"), old, new, tests)
