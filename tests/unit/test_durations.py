"""Durations as people write them."""

from datetime import timedelta

import pytest

from stillroom.durations import parse_duration

DURATIONS = {
    "90s": timedelta(seconds=90),
    "15m": timedelta(minutes=15),
    "12h": timedelta(hours=12),
    "7d": timedelta(days=7),
    "0d": timedelta(0),
    "999999999d": timedelta(days=999_999_999),
}


@pytest.mark.parametrize("text", DURATIONS)
def test_a_number_and_a_unit_are_a_duration(text: str) -> None:
    assert parse_duration(text) == parse_duration(text, may_lack_unit=True) == DURATIONS[text]


def test_a_number_alone_is_seconds_where_that_may_be() -> None:
    assert parse_duration("3600") is None
    assert parse_duration("3600", may_lack_unit=True) == timedelta(hours=1)


@pytest.mark.parametrize(
    "text", ["", "d", "-1d", "+1d", "1.5h", "7 d", "7w", "7D", "7d\n", "7d8h", "1" * 10 + "s", "٧d"]
)
def test_all_else_is_none(text: str) -> None:
    assert parse_duration(text) is None
    assert parse_duration(text, may_lack_unit=True) is None
