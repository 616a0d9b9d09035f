"""Commands in a process of their own, in which libraries or features can be missing."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillroom.assembly import assemble
from stillroom.settings import AllSettings

HAS_DATABASE: Final = importlib.util.find_spec("sqlalchemy") is not None  # `make core` has none

LIBRARIES: Final = ("sqlalchemy", "alembic", "aiosqlite", "psycopg", "PIL")
"""What an installation with the extra `store` lacks."""

_PROGRAM: Final = """
import contextlib, io, json, sys, traceback
hidden, commands = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(hidden))  # importing them fails, as if they were not there
from stillroom.cli.main import main
for words in commands:
    sys.argv = ["stillroom", *words.split()]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
    print(json.dumps([words, code, out.getvalue(), err.getvalue()]))
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def done(
    folder: Path, commands: Sequence[str], *, hidden: Sequence[str] = (), **variables: str
) -> Mapping[str, Done]:
    """Run the commands one after the other in this folder, and return what each has printed."""
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps([hidden, commands])],
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    lines = map(json.loads, ran.stdout.splitlines())
    return {words: Done(code, out, err) for words, code, out, err in lines}


async def make_store(folder: Path) -> None:
    """Make an empty store where commands look for it, and a folder for another one."""
    (folder / "other").mkdir()
    parts = assemble(AllSettings.of_values(data_dir=folder / "stillroom-data"), features=[])
    await parts.close()
