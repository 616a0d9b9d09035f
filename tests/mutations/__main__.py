"""The command `python -m mutations`."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from mutations import ROOT, chosen
from mutations.fault import Fault

LONGEST_S: Final = 600
COPIED: Final = ("src", "tests", "deploy", "docs", "benchmarks", "pyproject.toml")


def copied(tree: Path, copy: Path) -> Path:
    """Copy the code, and the tests of a tree. A copy is used again, so that bytecode is kept."""
    copy.mkdir()
    for name in COPIED:
        source = (ROOT if name == "src" else tree) / name
        if source.is_dir():
            shutil.copytree(source, copy / name)
        elif source.exists():
            shutil.copy(source, copy / name)
    return copy


@contextlib.contextmanager
def planted(fault: Fault, copy: Path) -> Iterator[None]:
    """Plant a fault into a copy, and take it out again."""
    name = Path("src/stillroom", fault.file)
    if not (ROOT / name).exists():
        raise LookupError(f"{fault.name}: there is no {fault.file}; where is that code now?")
    text = (ROOT / name).read_text()
    if (count := text.count(fault.old)) != 1:
        raise LookupError(f"{fault.name}: {count} times in {fault.file}: {fault.old!r}")
    (copy / name).write_text(text.replace(fault.old, fault.new))
    try:
        yield
    finally:
        shutil.copy2(ROOT / name, copy / name)  # with its time, by which Python knows its bytecode


def found_by(fault: Fault, copy: Path) -> tuple[str, float]:
    """Return the first failure that pytest reports, empty without one, and the seconds it took."""
    began = time.monotonic()
    with planted(fault, copy):
        ran = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=no",
                "-p", "no:cacheprovider", *fault.tests,
            ],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": f"{copy / 'src'}", "PYTHONDONTWRITEBYTECODE": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )  # fmt: skip
    said = ran.stdout + ran.stderr
    lines = [line for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if ran.returncode not in (0, 1) or (ran.returncode == 1 and not lines):
        raise RuntimeError(f"{fault.name}: pytest ended with {ran.returncode}\n{said[-3000:]}")
    lines.sort(reverse=True)  # a test that fails before its fixture that does
    return (lines[0] if ran.returncode else ""), time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant faults, and see whether tests find them.")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--tree", type=Path, default=ROOT)
    parser.add_argument("--at-once", type=int, default=2)
    asked = parser.parse_args()
    faults = list(chosen(asked.words))
    missed = 0
    copies: SimpleQueue[Path] = SimpleQueue()

    def run(fault: Fault) -> tuple[Fault, str, float | Exception]:
        copy = copies.get()
        try:
            return fault, *found_by(fault, copy)
        except (LookupError, RuntimeError, subprocess.TimeoutExpired) as error:
            return fault, "", error
        finally:
            copies.put(copy)

    with (
        tempfile.TemporaryDirectory(prefix="stillroom-mutations-") as folder,
        ThreadPoolExecutor(asked.at_once) as pool,
    ):
        for number in range(asked.at_once):
            copies.put(copied(asked.tree, Path(folder, str(number))))
        for fault, test, took in pool.map(run, faults):
            missed += not test
            if isinstance(took, Exception):
                print(f"ERROR   {took}", flush=True)
            else:
                print(f"{'found ' if test else 'MISSED'}  {took:5.0f} s  {fault.name}", flush=True)
                print(f"                  {test}" if test else "", flush=True)
    print(f"{missed} of {len(faults)} not found")
    return missed != 0


if __name__ == "__main__":
    sys.exit(main())
