"""Commands of a store whose features' libraries are not installed: one sentence, no traceback."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from core.apart import HAS_DATABASE, LIBRARIES, done, make_store
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.assembly import features_off
from stillroom.embed import Stillroom
from stillroom.errors import ConfigurationError
from stillroom.features.database.settings import DatabaseSettings

SUCH_AS = "such as `pip install '.[server]'` in a checkout (other ways: docs/installing.md)"
POSTGRESQL = "postgresql://u:hidden@127.0.0.1:1/d"


def settings_of(seaweed: SeaweedFS) -> dict[str, Any]:
    return {
        "r2_endpoint_url": seaweed.endpoint_url,
        "r2_access_key_id": KEY_ID,
        "r2_secret_access_key": SECRET,
        "r2_bucket_name": BUCKET,
    }


async def test_a_command_of_a_feature_says_which_extra_to_install(tmp_path: Path) -> None:
    await make_store(tmp_path)
    commands = (
        "media sweep", "media sweep --dry-run", "media orphans", "media ingest a.png",
        "media dead-letters ls", "media migrate", "index rebuild", "retention plan",
        "migrate --from stillroom-data --to other",
    )  # fmt: skip

    found = done(tmp_path, commands, hidden=LIBRARIES)

    assert list(found) == list(commands)
    for words, command in found.items():
        assert (command.code, command.out) == (2, ""), (words, command)
        (line,) = command.err.splitlines()
        assert line.startswith("stillroom: "), words
        assert "sqlalchemy" in line, words
        assert line.endswith(f" not installed: install Stillroom with its server, {SUCH_AS}"), words


async def test_commands_that_need_no_feature_work(tmp_path: Path) -> None:
    await make_store(tmp_path)

    found = done(tmp_path, ("token", "verify", "doctor", "doctor --json"), hidden=LIBRARIES)

    assert {command.code for command in found.values()} == {0}, found
    assert "nothing to verify" in found["verify"].out


async def test_doctor_says_which_features_are_off_and_why(tmp_path: Path) -> None:
    await make_store(tmp_path)

    found = done(tmp_path, ("doctor", "doctor --json"), hidden=LIBRARIES)

    said = found["doctor"].out
    assert (
        "note  database    off: sqlalchemy, alembic and aiosqlite are not installed: "
        f"install Stillroom with its server, {SUCH_AS}\n"
    ) in said
    assert "note  pictures    off: pillow is not installed: install Stillroom" in said
    assert "note  retention   off: it needs 'library', which is off: sqlalchemy" in said
    assert "decoders" not in said
    checks = [json.loads(line) for line in found["doctor --json"].out.splitlines()]
    off = [check for check in checks if check["said"].startswith("off: ")]
    assert {check["verdict"] for check in off} == {"note"}
    assert {"database", "pictures", "search", "library"} <= {check["subject"] for check in off}


def test_without_a_database_nothing_warns_about_its_rows(
    seaweed: SeaweedFS, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = settings_of(seaweed)
    variables = {name.upper(): value for name, value in bucket.items()}

    (command,) = done(tmp_path, ("doctor",), hidden=LIBRARIES, **variables).values()
    Stillroom(tmp_path, features=[], **bucket)

    assert "the token secret is only on this machine" in command.out + caplog.text
    assert "the rows of the media library" not in command.out + caplog.text

    if HAS_DATABASE:
        Stillroom(tmp_path, **bucket)
        assert "the rows of the media library are only on this machine" in caplog.text


def test_one_library_is_missing_and_several_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)

    off = features_off()

    assert off["pictures"].startswith("pillow is not installed: install Stillroom")
    assert off["database"].startswith("sqlalchemy, alembic and aiosqlite are not installed: ")


def test_a_url_of_postgresql_without_its_driver_is_refused_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    settings = DatabaseSettings.of_values(data_dir=tmp_path, database_url=POSTGRESQL)

    with pytest.raises(ConfigurationError) as refused:
        _ = settings.rows

    assert str(refused.value) == (
        "STILLROOM_DATABASE_URL names PostgreSQL, but psycopg is not installed: install Stillroom "
        "with its driver for PostgreSQL, such as `pip install '.[postgres]'` in a checkout (other "
        "ways: docs/installing.md)"
    )


@pytest.mark.skipif(not HAS_DATABASE, reason="the environment of `make core` has no database")
async def test_the_server_and_commands_refuse_such_a_url_before_they_start(tmp_path: Path) -> None:
    await make_store(tmp_path)
    commands = ("serve --port 0", "media migrate", "media sweep", "doctor")
    url = {"STILLROOM_DATABASE_URL": POSTGRESQL}

    found = done(tmp_path, commands, hidden=["psycopg"], **url)

    for command in found.values():
        assert "names PostgreSQL, but psycopg is not installed: " in command.out + command.err
        assert "hidden" not in command.out + command.err
    assert [command.code for command in found.values()] == [2, 2, 2, 1]
