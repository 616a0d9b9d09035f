"""`python -m benchmarks`: run the cases, print the tables."""

import contextlib
import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks import listing, singles
from benchmarks.cases import CASES, MIB, TEAMS
from benchmarks.measure import Pace, measure, running
from benchmarks.plot import svg
from benchmarks.progress import Progress
from benchmarks.report import (
    Results,
    Verdict,
    in_short,
    judge,
    markdown,
    with_sentence,
)

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".make" / "benchmarks"

_FULL = Pace(rounds=5, seconds=0.8, others=5)
_QUICK = Pace(rounds=3, seconds=0.3, others=1)
_SINGLES = ("huge", "start", "signing")
_SINGLE_S = 6


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds, listings up to 1e5.")
@click.option(
    "--only",
    multiple=True,
    metavar="PART",
    help=f"Only cases whose name has this part: {', '.join(case.slug for case in CASES)}, "
    f"{', '.join(_SINGLES)}, listing. Repeat for several.",
)
@click.option(
    "--save",
    is_flag=True,
    help="Replace benchmarks/RESULTS.md, docs/performance.svg and README's sentence.",
)
def main(*, quick: bool, only: tuple[str, ...], save: bool) -> None:
    """Stillroom and its peers side by side: docs/performance.md."""
    if save and only:
        raise click.UsageError("--save writes what a whole run has found: not with --only")
    load = os.getloadavg()[0]
    pace = _QUICK if quick else _FULL
    rounds = 1 if quick else 3
    counts = [1000, 100_000] if quick else [1000, 100_000, 1_000_000]
    cases = [case for case in CASES if _chosen(case.slug, only)]
    lists = _chosen("listing", only)
    figures = [name for name in _SINGLES if _chosen(name, only)]
    progress = Progress(
        sum(pace.planned_s(case) for case in cases)
        + (listing.planned_s(counts, rounds) if lists else 0)
        + _SINGLE_S * len(figures)
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped
    verdicts: list[Verdict] = []
    found: list[singles.Single] = []
    listed: list[listing.Listed] = []
    costs: list[listing.SaveCost] = []
    # All at the end: what is deleted makes what is measured within the next minutes slower.
    with _alone(), tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as folder:
        work = Path(folder)
        for team in TEAMS:
            members = [case for case in cases if case.team == team]
            if members:
                with running(team, work) as started:
                    for case in members:
                        samples = measure(case, started, pace, work, progress)
                        verdicts.append(judge(case, samples))
        for name in figures:
            progress.advance(name)
            found += _single(name, work, pace.rounds, 256 * MIB if quick else 1024 * MIB)
            progress.advance(name, _SINGLE_S)
        if lists:
            listed, costs = listing.measure(counts, rounds, work, CACHE, progress)
    command = " ".join(
        ["python -m benchmarks", *(["--quick"] * quick), *(f"--only {part}" for part in only)]
    )
    seconds = progress.finish()
    results = Results(verdicts, found, listed, costs, command, pace.rounds, seconds, load)
    page = markdown(results)
    click.echo(page)
    if save:
        (ROOT / "benchmarks" / "RESULTS.md").write_text(page)
        (ROOT / "docs" / "performance.svg").write_text(svg(verdicts))
        readme = ROOT / "README.md"
        readme.write_text(with_sentence(readme.read_text(), in_short(verdicts)))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise click.ClickException("another run is under way; both would be spoilt") from error
        yield


def _chosen(slug: str, only: tuple[str, ...]) -> bool:
    return not only or any(part in slug for part in only)


def _single(name: str, work: Path, times: int, size: int) -> list[singles.Single]:
    if name == "start":
        return [singles.start(work, times)]
    if name == "signing":
        return [singles.signing(times)]
    (work / name).mkdir()
    return list(singles.huge_uploads(size, work / name))


if __name__ == "__main__":
    main()
