"""One clock for all connections."""

import asyncio
import errno
import os

import pytest

from stillroom.server import watch
from stillroom.telemetry import metrics


async def test_a_connection_that_fails_ends_the_clock_of_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def tick(self, now: float) -> None:
            raise ZeroDivisionError(now)

    class Sound:
        def __init__(self) -> None:
            self.ticked = asyncio.Event()
            self.times = 0

        def tick(self, now: float) -> None:
            del now
            self.times += 1
            if self.times == 2:
                self.ticked.set()

    monkeypatch.setattr(watch, "TICK_S", 0.001)
    sound = Sound()
    watched: list[watch.Watched] = [Broken(), sound]
    watch.Watch(asyncio.get_running_loop(), watched).start()
    await asyncio.wait_for(sound.ticked.wait(), 10)
    watched.clear()
    assert "a connection's clock failed" in caplog.text


async def test_metrics_that_fail_end_no_clock_and_are_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Sound:
        def __init__(self) -> None:
            self.ticked = asyncio.Event()
            self.times = 0

        def tick(self, now: float) -> None:
            del now
            self.times += 1
            if self.times == 3:
                self.ticked.set()

    def without_descriptors() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(watch, "TICK_S", 0.001)
    monkeypatch.setattr(metrics, "flush", without_descriptors)
    sound = Sound()
    watched: list[watch.Watched] = [sound]
    watch.Watch(asyncio.get_running_loop(), watched).start()
    await asyncio.wait_for(sound.ticked.wait(), 10)
    watched.clear()
    assert caplog.text.count("the metrics cannot be handed on") == 1
