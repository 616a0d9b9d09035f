"""What is done to a cluster under load, one thing after the other, and how it bore it."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cluster.deployment import Deployment
from cluster.load import Load, Sent

BOUND_S = 65
"""No request may take longer, whatever hangs: the proxy gives a server up after 60 s."""


@dataclass(frozen=True)
class Phase:
    name: str
    fault: Callable[[Deployment], AbstractContextManager[None]]


@dataclass(frozen=True)
class Pace:
    """How long each phase lasts with its fault and after it, and the fewest answers in each."""

    faulty_s: float
    after_s: float
    acknowledged: int


@dataclass
class Borne:
    """One phase, as its clients saw it.

    Attributes:
        recovery_s: From the mending until the last failure had come in; None without one.
    """

    name: str
    faulty_s: float
    requests: int
    troubles: Counter[str]
    longest_s: float
    longest: str
    p99_s: float
    recovery_s: float | None

    @property
    def acknowledged(self) -> int:
        return self.requests - self.troubles.total()


@contextlib.contextmanager
def servers_killed(deployment: Deployment) -> Iterator[None]:
    for number in range(1, len(deployment.servers)):
        with server_killed(deployment, number):
            pass
    with server_killed(deployment):
        yield


@contextlib.contextmanager
def server_killed(deployment: Deployment, number: int = 0) -> Iterator[None]:
    server = deployment.servers[number]
    server.kill()
    yield
    server.start()
    deployment.wait_until_ready(server)


@contextlib.contextmanager
def volume_killed(deployment: Deployment) -> Iterator[None]:
    volume = deployment.bucket.volumes[0]
    volume.kill()
    yield
    volume.start()
    deployment.bucket.wait_for_volumes()


SERVER_KILLED = Phase("a Stillroom killed (SIGKILL) and started again", server_killed)
VOLUME_KILLED = Phase("a volume server killed and started again", volume_killed)
VOLUME_HANGS = Phase("a volume server hangs (SIGSTOP)", lambda it: it.bucket.volumes[1].hanging())
POSTGRES_AWAY = Phase("PostgreSQL stopped at once and started again", lambda it: it.postgres.away())

SHORT = (SERVER_KILLED, VOLUME_KILLED, POSTGRES_AWAY, VOLUME_HANGS)
PHASES = (
    Phase("nothing", lambda _: contextlib.nullcontext()),
    SERVER_KILLED,
    Phase("the three Stillrooms killed, one after the other", servers_killed),
    Phase("a Stillroom hangs (SIGSTOP)", lambda it: it.servers[1].hanging()),
    VOLUME_KILLED,
    VOLUME_HANGS,
    POSTGRES_AWAY,
    Phase("PostgreSQL hangs (SIGSTOP)", lambda it: it.postgres.hanging()),
)


@dataclass(frozen=True)
class Ended:
    name: str
    faulty_s: float
    mended: float


def bear(deployment: Deployment, load: Load, phase: Phase, pace: Pace) -> Ended:
    load.enter(phase.name)
    began = time.monotonic()
    with phase.fault(deployment):
        _wait(load, pace.faulty_s, pace.acknowledged)
    mended = time.monotonic()
    _wait(load, pace.after_s, pace.acknowledged)
    return Ended(phase.name, mended - began, mended)


def _wait(load: Load, seconds: float, acknowledged: int) -> None:
    ends = time.monotonic() + seconds
    load.wait_for(acknowledged)
    time.sleep(max(0.0, ends - time.monotonic()))  # how long a fault lasts is the experiment


def borne(load: Load, ended: Ended) -> Borne:
    sent = [each for each in load.sent if each.phase == ended.name]
    failed = [each for each in sent if each.trouble]
    late = [each.began + each.seconds - ended.mended for each in failed]
    worst = max(sent, key=lambda each: each.seconds)
    return Borne(
        name=ended.name,
        faulty_s=ended.faulty_s,
        requests=len(sent),
        troubles=Counter(each.trouble for each in failed),
        longest_s=worst.seconds,
        longest=worst.operation,
        p99_s=_p99(sent),
        recovery_s=max(0.0, *late) if late else None,
    )


def _p99(sent: list[Sent]) -> float:
    ranked = sorted(each.seconds for each in sent)
    return ranked[math.ceil(len(ranked) * 0.99) - 1]
