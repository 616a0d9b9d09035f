"""A clock that is set makes nothing due early; one that is corrected a little is followed."""

import logging

import pytest

from stillroom.features.database.clock import Clock


class Moved:
    """A wall clock beside a steady one, both moved by hand."""

    def __init__(self) -> None:
        self.steady, self.step = 100.0, 0.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: 1e9 + self.steady + self.step, steady=lambda: self.steady)


@pytest.mark.parametrize(
    ("step", "early", "late"),
    [(0, 0, 0), (50, 50, 50), (-50, -50, -50), (86_400, 0, 86_400), (-86_400, -86_400, 0)],
)
def test_of_two_times_the_safe_one_counts(step: float, early: float, late: float) -> None:
    moved = Moved()
    clock = moved.clock()
    moved.steady += 3600
    moved.step = step

    assert clock.earliest().timestamp() == pytest.approx(1e9 + moved.steady + early)
    assert clock.latest().timestamp() == pytest.approx(1e9 + moved.steady + late)


def test_a_step_forward_is_warned_about_once_and_not_believed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    moved = Moved()
    clock = moved.clock()
    moved.step = 86_400
    with caplog.at_level(logging.WARNING, "stillroom.media"):
        for _ in range(3):
            moved.steady += 86_400
            assert clock.earliest().timestamp() == pytest.approx(1e9 + moved.steady)

    assert [record.getMessage()[:36] for record in caplog.records] == [
        "the clock was set forward by 86400 s"
    ]


def test_a_step_that_is_taken_back_is_forgotten() -> None:
    moved = Moved()
    clock = moved.clock()
    for step in (86_400, 0, 10):
        moved.step = step
        clock.earliest()

    assert clock.earliest().timestamp() == pytest.approx(1e9 + moved.steady + 10)
