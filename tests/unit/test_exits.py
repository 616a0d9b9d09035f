"""What a command ends with, and what it says to do."""

import sys
from pathlib import Path

import pytest

from stillroom.cli.exits import code_of, hint_of
from stillroom.client import ServerUnreachable
from stillroom.errors import BackendUnavailable, TokenExpired, Unauthenticated


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


def test_a_secret_file_that_may_be_stale_is_named_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STILLROOM_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("STILLROOM_JWT_SECRET", raising=False)
    assert "STILLROOM_JWT_SECRET" not in hint_of(Unauthenticated())

    file = tmp_path / ".stillroom" / "secret"
    file.parent.mkdir()
    file.touch()

    remedy = (
        f"if the server has STILLROOM_JWT_SECRET, set it here, too: {str(file)!r} is then stale"
    )
    assert remedy in hint_of(Unauthenticated())
    assert remedy not in hint_of(TokenExpired())
    monkeypatch.setenv("STILLROOM_JWT_SECRET", "s" * 32)
    assert remedy not in hint_of(Unauthenticated())
