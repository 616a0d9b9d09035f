"""`make crash`: everything in this folder, many times, and one table of what was lost.

    python -m crash.campaign --cuts 500 --kills 2000

The cuts and the kills run at the same time, for one waits while the other works.
"""

import argparse
import asyncio
import functools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from crash.failing_calls import CASES, FAILURES, WAYS, violations
from crash.grant_interruptions import GrantInterruptions
from crash.grant_sites import STORAGES
from crash.hidden_mounts import hidden_mounts
from crash.purge_kills import DATABASES, PER_ROUND, PurgeKills
from crash.rounds import ALONE, SHARED, Round, kills, power_cuts
from crash.webhook_kills import SETTINGS, WebhookKills

_PROGRESS_EVERY_S = 30
BAD_LINE = (
    "test_bucket_faults.py", "test_bucket_faults_over_http.py", "test_bucket_outages.py",
)  # fmt: skip
BOUNDS = "../acceptance/test_bounds.py"


@dataclass
class Row:
    what: str
    wanted: int
    run: "Run"
    done: int = 0
    acknowledged: int = 0
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    begun: float = 0
    ended: bool = False

    @property
    def seconds_left(self) -> float:
        """By the pace so far; 0 where there is none yet."""
        if self.ended or not self.done:
            return 0
        pace = (time.monotonic() - self.begun) / self.done
        return pace * max(self.wanted - self.done, 0)

    def take(self, rounds: Iterator[Round]) -> None:
        for one in rounds:
            self.done += 1
            self.acknowledged += one.acknowledged
            self.violations += one.violations

    def start(self, folder: Path) -> None:
        self.begun = time.monotonic()
        try:
            self.run(self, folder)
        except Exception as error:  # noqa: BLE001  (the others go on; the table says it)
            self.violations.append(f"stopped: {error!r}")
        if self.done < max(self.wanted, 1):
            self.violations.append(f"only {self.done} of {self.wanted} were run")
        self.ended = True


Run = Callable[[Row, Path], None]


def taking(rounds: Callable[..., Iterator[Round]], seed: int, *kind: str) -> Run:
    return lambda row, folder: row.take(rounds(folder, *kind, row.wanted, seed=seed))


def experimenting(
    kind: type[WebhookKills] | type[GrantInterruptions] | type[PurgeKills], seed: int, setting: str
) -> Run:
    """Kills while webhooks are delivered or images purged, or interruptions of upload grants."""

    def run(row: Row, folder: Path) -> None:
        experiment = kind(folder / kind.__name__, setting, seed=seed)
        try:
            row.take(experiment.rounds(row.wanted))
        finally:
            row.notes.append(experiment.figures())

    return run


def failing(row: Row, folder: Path) -> None:
    """Every call of every change, in every way: there are as many as there are."""

    async def all_of_them() -> None:
        def count() -> None:
            row.done += 1

        for name, way in WAYS.items():
            for case in CASES:
                for verdict in FAILURES:
                    here = folder / f"{name} {case.name} {verdict}"
                    row.violations += await violations(here, case, way, verdict, count)
                    shutil.rmtree(here)

    asyncio.run(all_of_them())


def running_tests(*files: str, chosen: str = "", **environment: int) -> Run:
    """The tests of files beside this one; those of the bucket are of hundreds of faults each."""

    def run(row: Row, folder: Path) -> None:
        tests = [(Path(__file__).parent / file).resolve() for file in files]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rpfE", f"--basetemp={folder / tests[0].stem}",
             "-k", chosen, *tests],
            env={**os.environ, **{name: str(number) for name, number in environment.items()}},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = ran.stdout.splitlines()
        row.done = sum(line.startswith("PASSED") for line in lines)
        row.violations += [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        if ran.returncode and not row.violations:
            row.violations.append(ran.stdout[-500:] + ran.stderr[-500:])

    return run


def fuzzing(seconds: int, seed: int) -> Run:
    """The parsers of headers and metadata, in a process that a file may take with it."""

    def run(row: Row, _: Path) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "generation.fuzzing", str(seconds), str(seed)],
            capture_output=True, text=True, check=True, timeout=10 * seconds + 60,
        )  # fmt: skip
        tried, *violations = ran.stdout.splitlines()
        row.done, row.violations = int(tried), violations

    return run


def show_progress(rows: list[Row], begun: float, ended: threading.Event) -> None:
    shown: set[str] = set()
    while not ended.wait(_PROGRESS_EVERY_S):
        passed = (time.monotonic() - begun) / 60
        so_far = ", ".join(
            f"{row.what} {row.done}" + (f"/{row.wanted}" if row.wanted else "") for row in rows
        )
        lost = sum(len(row.violations) for row in rows)
        left = max(row.seconds_left for row in rows) / 60
        print(
            f"{passed:.1f} min: {so_far}; {lost} lost or wrong; {left:.0f} min left at this pace",
            file=sys.stderr,
            flush=True,
        )
        # A campaign takes hours, and may be stopped before it prints its table.
        for row in rows:
            for violation in row.violations:
                if violation not in shown:
                    shown.add(violation)
                    print(f"{row.what}: {violation}", file=sys.stderr, flush=True)


def print_table(rows: list[Row], minutes: float) -> None:
    print(f"\n{'what was done to it':<26}{'times':>8}{'acknowledged':>14}{'lost or wrong':>15}")
    for row in rows:
        acknowledged = row.acknowledged or "-"
        print(f"{row.what:<26}{row.done:>8}{acknowledged:>14}{len(row.violations):>15}")
    print(f"{minutes:.0f} minutes on {os.cpu_count()} cores")
    for row in rows:
        for note in row.notes:
            print(f"{row.what}: {note}")
        for violation in row.violations[:20]:
            print(f"{row.what}: {violation}")


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--cuts", type=int, default=500, help="on each filesystem")
    asked.add_argument(
        "--shared-flushes", action="store_true", help="of group commit, in all power cuts"
    )
    asked.add_argument("--kills", type=int, default=2000)
    asked.add_argument("--mounts", type=int, default=50, help="that hide the library's copies")
    asked.add_argument("--rounds", type=int, default=10, help="of random trouble with the bucket")
    asked.add_argument("--fuzz-seconds", type=int, default=120, help="for the parsers")
    asked.add_argument("--webhook-kills", type=int, default=50, help="in each setting")
    asked.add_argument("--grants", type=int, default=500, help="that are interrupted")
    asked.add_argument("--purges", type=int, default=10_000, help="that are to be sent at least")
    told = "of an ingest in place with a deletion, on each storage and database"
    asked.add_argument("--coincidences", type=int, default=2000, help=told)
    asked.add_argument("--only", default="", help="rows whose names contain this text")
    asked.add_argument("--seed", type=int, default=int(time.time()))
    options = asked.parse_args()
    logging.disable()  # what the storage in this process says of the failures that we make
    flushes = (SHARED,) if options.shared_flushes else (ALONE, SHARED)
    cuts = functools.partial(power_cuts, flushes=flushes)
    coincidences = running_tests("test_coincidences.py", CRASH_COINCIDENCES=options.coincidences)
    rows = [
        Row("power cuts, ext4", options.cuts, taking(cuts, options.seed, "ext4")),
        Row("power cuts, XFS", options.cuts, taking(cuts, options.seed, "xfs")),
        Row("SIGKILL", options.kills, taking(kills, options.seed)),
        Row("media/ hidden by a mount", options.mounts, taking(hidden_mounts, options.seed)),
        Row("bucket, bad line (tests)", 0, running_tests(*BAD_LINE, CRASH_ROUNDS=options.rounds)),
        Row("no descriptors (tests)", 0, running_tests(BOUNDS, chosen="descriptors")),
        Row("ingest in place (tests)", 0, coincidences),
        Row("no temporary room (tests)", 0, running_tests("test_temporary_space.py")),
        *(
            Row(
                f"webhooks, {name}",
                options.webhook_kills,
                experimenting(WebhookKills, options.seed, name),
            )
            for name in SETTINGS
        ),
        *(
            Row(
                f"upload grants, {name}",
                options.grants // 2,
                experimenting(GrantInterruptions, options.seed, name),
            )
            for name in STORAGES
        ),
        *(
            Row(
                f"purges, {name}",
                options.purges // PER_ROUND // len(DATABASES),
                experimenting(PurgeKills, options.seed, name),
            )
            for name in DATABASES
        ),
        Row("files made by chance", 0, fuzzing(options.fuzz_seconds, options.seed)),
        Row("failing calls", 0, failing),
    ]
    rows = [row for row in rows if options.only in row.what]
    print(f"seed {options.seed}", file=sys.stderr)
    begun, ended = time.monotonic(), threading.Event()
    progress = threading.Thread(target=show_progress, args=(rows, begun, ended))
    progress.start()
    with (
        tempfile.TemporaryDirectory(prefix="stillroom-crash-") as folder,
        ThreadPoolExecutor() as pool,
    ):
        # Descriptors are counted in this process, so the calls fail while it does nothing else.
        alone = [row for row in rows if row.run is failing]
        for row in alone:
            row.start(Path(folder) / "calls")
        for row in rows:
            if row not in alone:
                pool.submit(row.start, Path(folder))
    ended.set()
    progress.join()
    print_table(rows, (time.monotonic() - begun) / 60)
    return 1 if any(row.violations for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
