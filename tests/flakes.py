"""Run tests again and again under load, in random order, and report which failed at least once.

`make flakes` runs it. Every run has another seed for the order, and two processes that keep each
core busy. One run in three is pinned to a single core.

    python -m flakes                                three runs of what `make test` runs
    python -m flakes --runs 10 tests/media          ten runs of a folder
    python -m flakes --seed 7 tests/media           the orders of an earlier report
    python -m flakes -- -m whole tests/browser      further options of pytest after --
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DEFAULT: Final = ("-m", "not whole and not root and not release")
PINNED_EVERY: Final = 3
BUSY_PER_CORE: Final = 2
_BUSY: Final = "import hashlib\nwhile True: hashlib.sha256(bytes(1_000_000)).digest()"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AsWritten)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--processes", default="4", help="of pytest (-n)")
    parser.add_argument("pytest", nargs="*", default=DEFAULT, help="tests, and options of pytest")
    asked = parser.parse_args()
    failures: dict[str, list[str]] = {}
    whole_runs_failed = 0
    for number in range(asked.runs):
        seed = asked.seed + number
        is_pinned = number % PINNED_EVERY == PINNED_EVERY - 1
        told = f"run {number + 1} of {asked.runs}, --random-order-seed={seed}"
        print(f"{told}{', on one core' if is_pinned else ''}", flush=True)
        began = time.monotonic()
        with load():
            status, failed = run(asked.pytest, seed, asked.processes, is_pinned=is_pinned)
        for test in failed:
            failures.setdefault(test, []).append(str(seed))
        if status not in (0, 1):
            whole_runs_failed += 1
        minutes = (time.monotonic() - began) / 60
        print(f"{told}: status {status}, {len(failed)} failed, {minutes:.1f} minutes", flush=True)
    for test, seeds in sorted(failures.items(), key=lambda item: -len(item[1])):
        print(f"failed {len(seeds)} of {asked.runs} times: {test} (seeds {', '.join(seeds)})")
    print(f"{len(failures)} tests failed at least once, {whole_runs_failed} runs broke off")
    return 1 if failures or whole_runs_failed else 0


class _AsWritten(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


def run(
    arguments: list[str], seed: int, processes: str, *, is_pinned: bool
) -> tuple[int, list[str]]:
    """Run pytest once, and return its exit status and the tests that failed."""
    pinning = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))] if is_pinned else []
    with tempfile.TemporaryDirectory() as cache:
        order = ["--random-order", f"--random-order-seed={seed}"]
        pytest = [sys.executable, "-m", "pytest", "-q", "-n", processes, "--dist", "loadscope"]
        ran = subprocess.run(
            [*pinning, *pytest, "-o", f"cache_dir={cache}", *order, *arguments],
            cwd=ROOT,
            check=False,
        )
        # https://docs.pytest.org/en/stable/how-to/cache.html#inspecting-cache-content
        last_failed = Path(cache) / "v/cache/lastfailed"
        failed = list(json.loads(last_failed.read_text())) if last_failed.exists() else []
    return ran.returncode, failed


@contextlib.contextmanager
def load() -> Iterator[None]:
    cores = len(os.sched_getaffinity(0))
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(BUSY_PER_CORE * cores)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
