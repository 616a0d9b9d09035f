"""Sending load from a core of its own, and what the client saw."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import pinned
from benchmarks.pump import Order

_WRK_SCRIPT = Path(__file__).with_name("wrk_script.lua")


@dataclass(frozen=True)
class Seen:
    """One run of load, as the client saw it.

    Attributes:
        answered: Requests that were answered as expected.
        failed: Other answers, broken connections, and none at all.
        failures: The same by what they were, for people.
    """

    answered: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failures: str = ""


def pump(order: Order, cores: set[int]) -> Seen:
    """HEAD, uploads and mixed loads: `benchmarks/pump.py`."""
    ran = subprocess.run(
        [*pinned(cores), sys.executable, "-m", "benchmarks.pump"],
        input=json.dumps(dataclasses.asdict(order)),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    if ran.returncode:
        raise RuntimeError(f"the load generator failed: {ran.stderr}")
    found = json.loads(ran.stdout)
    failures = ", ".join(f"{count} x {what}" for what, count in found.pop("failures").items())
    return Seen(**found, failures=failures)


def wrk(order: Order, cores: set[int]) -> Seen:
    """Everything else: one thread of wrk.

    wrk tells answers apart only as up to 399 and above. Which status a case really gets is
    checked once before each run.
    """
    fields = [f"-H{name}: {value}" for name, value in order.fields.items()]
    many: list[str] = []
    if order.traffic:
        traffic = order.traffic
        law = "turns" if traffic.exponent is None else str(traffic.exponent)
        before, _, after = order.target.partition("{path}")
        many = ["--", traffic.paths, traffic.heads, law, str(traffic.seed), before, after]
    process = subprocess.Popen(
        [
            *pinned(cores), "wrk", "-t1", f"-c{order.connections}", "-d1h", "--timeout", "30s",
            "-s", str(_WRK_SCRIPT), *fields,
            f"http://127.0.0.1:{order.port}{order.target if not many else '/'}", *many,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        time.sleep(order.seconds)
        printed, complaint = _stopped(process)
    except BaseException:  # Ctrl-C: it would go on for an hour
        process.kill()
        raise
    if process.returncode == -signal.SIGINT:  # it had not begun, on a machine that is busy
        return wrk(dataclasses.replace(order, seconds=order.seconds * 2), cores)
    if process.returncode:
        raise RuntimeError(f"wrk failed: {complaint or printed}")
    return parsed(printed, refusals_expected=min(order.expected) >= 400)  # noqa: PLR2004  (HTTP)


def _stopped(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What wrk reports on SIGINT, since it knows whole seconds only.

    Again each second: one that comes just before it falls asleep does not wake it.
    """
    for _ in range(60):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)
    process.kill()
    raise RuntimeError("wrk does not stop")


def parsed(printed: str, *, refusals_expected: bool) -> Seen:
    """What `wrk_script.lua` has printed."""
    line = next(line for line in printed.splitlines() if line.startswith("{"))
    found = json.loads(line)
    refused = found["refused"]
    unexpected = found["requests"] - refused if refusals_expected else refused
    return Seen(
        answered=found["requests"] - unexpected,
        failed=unexpected + found["broken"],
        seconds=found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        failures=f"{unexpected} x status, {found['broken']} x connection"
        if unexpected + found["broken"]
        else "",
    )
