"""`make cluster`: everything in this folder, once, and a table of how it was borne.

    python -m cluster.campaign --save

Writes the table into benchmarks/EXPERIMENTS.md with `--save`.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cluster.audit import Audit, audit
from cluster.deployment import Deployment, deployment
from cluster.load import Load
from cluster.phases import BOUND_S, PHASES, Borne, Pace, Phase, bear, borne
from services.postgres import postgresql

PAGE = Path(__file__).parents[2] / "benchmarks" / "EXPERIMENTS.md"
MARKED = re.compile(r"(<!-- make cluster -->\n).*?(<!-- end -->)", re.DOTALL)
PACE = Pace(faulty_s=8, after_s=6, acknowledged=20)


@dataclass
class Run:
    load: Load
    borne: list[Borne]
    audit: Audit
    seconds: float

    @property
    def violations(self) -> list[str]:
        hung = [
            f"{each.name}: a {each.longest} took {each.longest_s:.1f} s"
            for each in self.borne
            if each.longest_s > BOUND_S
        ]
        return self.audit.violations + hung


def run(running: Deployment, phases: tuple[Phase, ...], pace: Pace, *, seed: int) -> Run:
    began = time.monotonic()
    load = Load(running.url, running.token(), seed)
    load.start()
    try:
        ended = []
        for phase in phases:
            print(f"{time.monotonic() - began:5.0f} s: {phase.name}", file=sys.stderr, flush=True)
            ended.append(bear(running, load, phase, pace))
    finally:
        load.stop()
    load.settle()
    found = audit(running, load)
    return Run(load, [borne(load, each) for each in ended], found, time.monotonic() - began)


def table(ran: Run, command: str) -> str:
    today = time.strftime("%-d %B %Y", time.gmtime())
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.0f} in the end"
    lines = [
        f"Made by `{command}` on {today} in {ran.seconds:.0f} s ({machine}).",
        "",
        "| what happens | for | requests | acknowledged | failures | longest | p99 | well after |",
        "|---|---:|---:|---:|---|---|---:|---:|",
    ]
    for each in ran.borne:
        kinds = ", ".join(f"{times} × {what}" for what, times in each.troubles.most_common())
        longest = f"{each.longest_s:.1f} s ({each.longest})"
        recovery = "–" if each.recovery_s is None else f"{each.recovery_s:.1f} s"
        lines.append(
            f"| {each.name} | {each.faulty_s:.1f} s | {each.requests:,} | {each.acknowledged:,} "
            f"| {kinds or 'none'} | {longest} | {each.p99_s:.2f} s | {recovery} |"
        )
    lines += ["", "| counted in the end | |", "|---|---:|"]
    lines += [f"| {what} | {count:,} |" for what, count in ran.audit.counts.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    told = "write the table into benchmarks/EXPERIMENTS.md"
    asked.add_argument("--save", action="store_true", help=told)
    asked.add_argument("--seed", type=int, default=int(time.time()))
    options = asked.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory(prefix="stillroom-cluster-") as folder,
        postgresql() as postgres,
        deployment(Path(folder), postgres) as running,
    ):
        ran = run(running, PHASES, PACE, seed=options.seed)
    shown = table(ran, "make cluster")
    print(shown)
    for what, times in Counter(ran.violations).most_common(50):
        print(f"{times} × {what}")
    if options.save and not ran.violations:
        text = PAGE.read_text()
        PAGE.write_text(MARKED.sub(lambda found: f"{found[1]}{shown}{found[2]}", text))
    return 1 if ran.violations else 0


if __name__ == "__main__":
    sys.exit(main())
