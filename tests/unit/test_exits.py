"""What a command ends with, and what it says to do."""

import sys

import pytest

from stillroom.cli.exits import code_of, hint_of
from stillroom.client import ServerUnreachable
from stillroom.errors import BackendUnavailable, Unauthenticated


def test_only_who_asks_a_server_is_sent_to_look_after_it() -> None:
    asked, worked = (
        ServerUnreachable("no answer"),
        BackendUnavailable("an operation on the disk failed"),
    )

    assert (code_of(asked), code_of(worked)) == (5, 5)
    assert "STILLROOM_URL" in hint_of(asked)
    assert "STILLROOM_URL" not in hint_of(worked)
    assert "the same command again" in hint_of(worked)


def test_a_command_in_a_hint_can_be_pasted_where_the_program_is_not_on_the_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", [".venv/bin/stillroom", "ls"])

    assert "`.venv/bin/stillroom token`" in hint_of(Unauthenticated())
