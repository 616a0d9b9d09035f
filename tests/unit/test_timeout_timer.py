"""One timer for the time-outs of all connections."""

import asyncio
import errno
import os
from typing import Any

import pytest

from stillroom.speed.http11 import service
from stillroom.store.telemetry import metrics


async def test_a_connection_that_fails_stops_the_time_outs_of_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def check_timeouts(self, now: float) -> None:
            raise ZeroDivisionError(now)

    class Sound:
        def __init__(self) -> None:
            self.checked = asyncio.Event()
            self.times = 0

        def check_timeouts(self, now: float) -> None:
            del now
            self.times += 1
            if self.times == 2:
                self.checked.set()

    monkeypatch.setattr(service, "TICK_S", 0.001)
    sound = Sound()
    connections: list[Any] = [Broken(), sound]
    service.TimeoutTimer(asyncio.get_running_loop(), connections).start()
    await asyncio.wait_for(sound.checked.wait(), 60)
    connections.clear()
    assert "cannot check the timeouts of a connection" in caplog.text


async def test_metrics_that_fail_stop_no_time_outs_and_are_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Sound:
        def __init__(self) -> None:
            self.checked = asyncio.Event()
            self.times = 0

        def check_timeouts(self, now: float) -> None:
            del now
            self.times += 1
            if self.times == 3:
                self.checked.set()

    def without_descriptors() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(service, "TICK_S", 0.001)
    monkeypatch.setattr(metrics, "flush", without_descriptors)
    sound = Sound()
    connections: list[Any] = [sound]
    service.TimeoutTimer(asyncio.get_running_loop(), connections).start()
    await asyncio.wait_for(sound.checked.wait(), 60)
    connections.clear()
    assert caplog.text.count("cannot write the metrics") == 1
