"""Tables of the benchmark of events and webhooks."""

import statistics
from dataclasses import dataclass
from typing import Final

OURS: Final = "Stillroom"
PEERS: Final = ("SeaweedFS filer", "plain FastAPI")
OFF: Final = "events off"
VARIANTS: Final = (OFF, "events", "a webhook", "a webhook that hangs")
RATE: Final = 200
"""Saves per second while lags are measured."""


@dataclass(frozen=True)
class Delivered:
    """Events of one server in one round.

    Attributes:
        a_second: Events per second, from the first save to the last arrival.
        saves_a_second: Saves per second meanwhile.
        lost: Acknowledged saves without an event.
        lags_ms: Times from the request of a save to the arrival of its event, ascending. They
            include the save, because peers send their webhooks before they respond.
        paced_lost: Acknowledged saves at the rate `RATE` without an event.
    """

    server: str
    a_second: float
    saves_a_second: float
    lost: int
    lags_ms: list[float]
    paced_lost: int

    def percentile(self, share: float) -> float:
        """Return a percentile of the lags."""
        return self.lags_ms[int(share * (len(self.lags_ms) - 1))]


@dataclass(frozen=True)
class Cost:
    """Processor time for each save, and saves per second, of one variant in one round."""

    variant: str
    cpu_us: float
    rate: float


def peers_table(rounds: list[list[Delivered]]) -> list[str]:
    """Return a table with a row for each server, and rows with our ratios to each peer."""
    lines = [
        f"| server | events a second | lag p50 ms, {RATE} saves a second | lag p99 ms | lost |",
        "|---|---:|---:|---:|---:|",
    ]
    by_name = [{one.server: one for one in found} for found in rounds]
    for name in (OURS, *PEERS):
        own = [found[name] for found in by_name]
        rate = statistics.median(one.a_second for one in own)
        p50, p99 = (
            statistics.median(one.percentile(share) for one in own) for share in (0.5, 0.99)
        )
        lost = sum(one.lost + one.paced_lost for one in own)
        lines.append(f"| {name} | {rate:,.0f} | {p50:,.0f} | {p99:,.0f} | {lost} |")
    for peer in PEERS:
        pairs = [(found[OURS], found[peer]) for found in by_name]
        rate = statistics.median(_ratio(a.a_second, b.a_second) for a, b in pairs)
        p50, p99 = (
            statistics.median(_ratio(a.percentile(s), b.percentile(s)) for a, b in pairs)
            for s in (0.5, 0.99)
        )
        lines.append(f"| ratio to {peer} | {rate:.2f} | {p50:.2f} | {p99:.2f} | |")
    return lines


def _ratio(above: float, below: float) -> float:
    return above / below if below else 0.0


def costs_table(rounds: list[list[Cost]]) -> list[str]:
    """Return a table with a row for each variant, and ratios to a server without events."""
    lines = [
        "| saves with | CPU µs | ratio | saves a second | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    by_name = [{one.variant: one for one in found} for found in rounds]
    for name in VARIANTS:
        pairs = [(found[name], found[OFF]) for found in by_name]
        cpu = statistics.median(one.cpu_us for one, _ in pairs)
        rate = statistics.median(one.rate for one, _ in pairs)
        cpu_ratio = statistics.median(one.cpu_us / base.cpu_us for one, base in pairs)
        rate_ratio = statistics.median(one.rate / base.rate for one, base in pairs)
        lines.append(f"| {name} | {cpu:,.0f} | {cpu_ratio:.2f} | {rate:,.0f} | {rate_ratio:.2f} |")
    return lines
