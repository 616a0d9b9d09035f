"""`stillroom` as users type it."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from running import STILLROOM

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@dataclass
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def ran(folder: Path, words: tuple[str, ...], variables: dict[str, str]) -> Ran:
    """Run `stillroom ...` in a folder; of our own variables it has only these."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("STILLROOM")}
    done = subprocess.run(
        [STILLROOM, *words],
        env={**others, **variables},
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr
    out = done.stdout.decode(errors="surrogateescape")  # an image may be in it
    return Ran(done.returncode, out, done.stderr.decode())
