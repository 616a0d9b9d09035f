"""A worker whose event loop does not run: killed, with its stacks in the log, and replaced."""

import contextlib
import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from running import IMAGES, Server, is_gone, running, wait_until_ready
from services.process import paused
from waiting import until

# In every Python that finds it: two signals, each of which blocks the main thread for good.
_BLOCKING = """
import re, signal, time

def wait_for_ever(*_):
    time.sleep(10**6)

def hold_the_lock_of_the_interpreter(*_):
    re.match(r"(a+)+$", "a" * 64 + "b")

signal.signal(signal.SIGALRM, wait_for_ever)
signal.signal(signal.SIGVTALRM, hold_the_lock_of_the_interpreter)
"""

Start = Callable[[str], AbstractContextManager[Server]]


@pytest.fixture
def blockable(tmp_path: Path) -> Start:
    (tmp_path / "sitecustomize.py").write_text(_BLOCKING)

    @contextlib.contextmanager
    def start(workers: str) -> Iterator[Server]:
        """Until all workers serve: one that starts has more time."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            name = f"stillroom-{uuid.uuid4()}"
            told.bind(f"\0{name}")
            told.settimeout(120)
            planted = f"env PYTHONPATH={tmp_path} NOTIFY_SOCKET=@{name}"
            with running(tmp_path, "--workers", workers, under=planted, hang_seconds="5") as server:
                assert told.recv(100) == b"READY=1"
                yield server

    return start


def wait_until_killed(server: Server, worker: int) -> None:
    said = f"worker {worker} was killed: its event loop had not run for 5 s"
    until(lambda: said in server.logged(), said=server.logged)


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.whole), "2"])
@pytest.mark.parametrize(
    ("blocks", "does"),
    [
        pytest.param(signal.SIGALRM, "wait_for_ever", marks=pytest.mark.whole),
        (signal.SIGVTALRM, "hold_the_lock_of_the_interpreter"),
    ],
)
def test_a_worker_that_hangs_is_replaced_and_what_it_acknowledged_is_there(
    blockable: Start, workers: str, blocks: signal.Signals, does: str
) -> None:
    with blockable(workers) as server:
        with server.client() as client:
            client.post(f"{IMAGES}/a.png", files={"file": b"x"}).raise_for_status()
        victim = server.pid

        os.kill(victim, blocks)

        wait_until_killed(server, victim)
        lines = server.logged().splitlines()
        assert any(f"worker {victim} hangs:" in line and f" in {does}" in line for line in lines)
        until(lambda: len([pid for pid in server.children() if pid != victim]) == int(workers))
        wait_until_ready(server)
        with server.client() as client:
            assert client.get(f"{IMAGES}/a.png").content == b"x"
        assert server.stop() == 0


@pytest.mark.whole
def test_a_worker_that_is_stopped_is_not_killed_while_one_that_hangs_is(blockable: Start) -> None:
    with blockable("2") as server:
        stopped, hanging = server.children()
        with paused([stopped]):
            os.kill(hanging, signal.SIGALRM)
            wait_until_killed(server, hanging)
        assert not is_gone(stopped)
        assert f"worker {stopped}" not in server.logged()
        assert server.stop() == 0


def test_sigterm_ends_a_server_whose_worker_hangs(blockable: Start) -> None:
    with blockable("1") as server:
        worker = server.pid
        os.kill(worker, signal.SIGALRM)

        assert server.stop() == 0

        wait_until_killed(server, worker)
        assert is_gone(worker)
