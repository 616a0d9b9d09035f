"""`stillroom` as users type it, in this process: one of its own starts like half a server."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from stillroom.cli.main import main

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@dataclass
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def ran(
    folder: Path,
    words: tuple[str, ...],
    variables: dict[str, str],
    typed: bytes = b"",
    *,
    on_main_thread: bool = False,
) -> Ran:
    """Run `stillroom ...` in a folder; of our own variables it has only these.

    A command that handles signals must run on the main thread, and its test outside a coroutine.
    """
    ours: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith(("STILLROOM", "R2_"))
    }
    with _as_the_program_finds_it(folder, words), ThreadPoolExecutor(1) as thread:
        with CliRunner().isolation(typed, env=ours | variables) as (out, err, _):
            # In a thread, since the test may be one of an event loop, and commands have their own.
            code = _status_of_main() if on_main_thread else thread.submit(_status_of_main).result()
            sys.stdout.flush()
        written = out.getvalue().decode(errors="surrogateescape")  # an image may be in it
        return Ran(code, written, err.getvalue().decode())


def lines_of_json(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


@contextlib.contextmanager
def _as_the_program_finds_it(folder: Path, words: tuple[str, ...]) -> Iterator[None]:
    arguments, logger = sys.argv, logging.getLogger("stillroom.client")
    level = logger.level
    sys.argv = ["stillroom", *words]
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.argv = arguments
        logger.setLevel(level)


def _status_of_main() -> int:
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
