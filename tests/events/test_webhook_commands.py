"""The commands `stillroom webhooks`, with the settings of a server."""

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from contract.images import RULES
from events.delivering import Deliveries
from events.receiving import SECRET, Receiver, Response
from stillroom.cli.media import dead_letters
from stillroom.cli.webhooks import webhooks
from stillroom.errors import CursorExpired
from stillroom.features.database import clock
from stillroom.features.database.config import SqliteConfig
from stillroom.features.events import webhook_values
from stillroom.features.events.cursor import cursor_of
from stillroom.features.events.database import record_events
from stillroom.features.events.webhook_file import Endpoint
from stillroom.features.library.database import MediaDatabase
from stillroom.store.choose import DiskConfig, open_storage


@pytest.fixture
def data_dir(tmp_path: Path, receiver: Receiver) -> Path:
    """A store with a webhook, whose server has stopped."""
    folder = tmp_path / "data"
    asyncio.run(open_storage(DiskConfig(folder, min_free_bytes=0), RULES).close())
    (folder / "backend.secret").touch(0o600)
    (folder / "backend.secret").write_text(SECRET)
    (folder / "webhooks.toml").write_text(
        f'[[endpoint]]\nname = "backend"\nurl = "{receiver.url}"\nsecret_file = "backend.secret"\n'
    )
    return folder


def run(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(webhooks, [*arguments, "--data-dir", str(data_dir)])


def records(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def deliver(data_dir: Path, endpoint: Endpoint, *paths: str, note: str = "") -> list[str]:
    """Write events and deliver them, as a server does. Return the cursors of all events."""

    async def work() -> list[str]:
        config = SqliteConfig(data_dir / ".stillroom" / "library.db", durable=False)
        database = MediaDatabase(config)
        database.on_connect.append(record_events)
        deliveries = await Deliveries(database, endpoint).open()
        await deliveries.happen(*paths, note=note)
        await deliveries.deliver()
        state = await deliveries.feed.state()
        events = (await deliveries.feed.read(0, 100)).events
        await database.close()
        return [cursor_of(event.position, state.feed_id) for event in events]

    return asyncio.run(work())


def test_ls_shows_the_progress(data_dir: Path, receiver: Receiver) -> None:
    (new,) = records(run(data_dir, "ls", "--json"))
    receiver.respond = lambda _: Response(500)
    deliver(data_dir, receiver.endpoint(), "a.png")
    deliver(data_dir, receiver.endpoint("old"))

    backend, removed = records(run(data_dir, "ls", "--json"))

    assert (new["name"], new["state"], new["url"]) == ("backend", "new", receiver.url)
    assert (backend["state"], backend["waiting"], backend["lost"]) == ("delivering", 1, 0)
    assert backend["last_error"] == "the response has the status 500"
    assert backend["lag_seconds"] > 0
    assert (removed["name"], removed["state"]) == ("old", "removed")
    lines = run(data_dir, "ls").stdout.splitlines()
    assert lines[0].startswith("backend  delivering  ")


@pytest.mark.parametrize(("minutes", "late"), [(1, "0"), (100, r"[6-9],\d{3}")])
def test_ls_shows_no_lateness_until_a_server_had_to_store_that_it_skipped_an_event(
    data_dir: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, minutes: int, late: str
) -> None:
    deliver(data_dir, receiver.endpoint(prefix="cats/"), "dogs/a.png")
    moment = clock.now() + timedelta(minutes=minutes)
    monkeypatch.setattr(clock, "now", lambda: moment)
    monkeypatch.setattr(webhook_values, "LEASE", timedelta(minutes=30))

    (line,) = run(data_dir, "ls").stdout.splitlines()

    assert re.search(f"  {late} s late  0 waiting  ", line), line


def test_test_sends_a_signed_event_and_fails_if_it_is_not_accepted(
    data_dir: Path, receiver: Receiver
) -> None:
    (result,) = records(run(data_dir, "test", "--json"))

    assert (result["name"], result["status"]) == ("backend", 200)
    (event,) = receiver.accepted
    assert (event["type"], event["data"]) == ("webhook.test", {"path": None})
    receiver.respond = lambda _: Response(500)
    assert run(data_dir, "test", "backend").exit_code == 1


def test_replay_delivers_again_what_follows_a_cursor(data_dir: Path, receiver: Receiver) -> None:
    cursors = deliver(data_dir, receiver.endpoint(), "a.png", "b.png", "c.png")

    records(run(data_dir, "replay", "--json", "--from", cursors[0]))
    deliver(data_dir, receiver.endpoint())

    assert sorted(receiver.paths) == ["a.png", "b.png", "b.png", "c.png", "c.png"]


def test_dead_letters_of_webhooks_are_in_the_list_of_all(
    data_dir: Path, receiver: Receiver
) -> None:
    def run_on(*arguments: str) -> list[dict[str, Any]]:
        options = ["--json", "--data-dir", str(data_dir)]
        return records(CliRunner().invoke(dead_letters, [*arguments, *options]))

    for path in ("a.png", "b.png"):
        deliver(data_dir, receiver.endpoint(), path, note="x" * 20_000)

    newer, older = run_on("ls")
    assert (older["kind"], older["endpoint"], older["attempts"]) == ("webhook", "backend", 1)
    assert "bytes in JSON" in older["last_error"]
    assert older["event"] != newer["event"]
    assert run_on("retry", older["id"]) == [{"id": older["id"], "event": older["event"]}]
    (backend,) = records(run(data_dir, "ls", "--json"))
    assert backend["waiting"] == 1
    assert run_on("drop", "--all") == [{"id": newer["id"], "event": newer["event"]}]
    assert run_on("ls") == []


def test_replay_refuses_cursors_and_names_that_do_not_exist(
    data_dir: Path, receiver: Receiver
) -> None:
    (cursor,) = deliver(data_dir, receiver.endpoint("other"), "a.png")

    foreign = run(data_dir, "replay", "--from", cursor_of(1, "0" * 16))
    invalid = run(data_dir, "replay", "--from", "nonsense")
    unknown = run(data_dir, "replay", "nobody", "--from", cursor)
    unseen = run(data_dir, "replay", "--from", cursor)

    assert isinstance(foreign.exception, CursorExpired)
    assert "--from must be a cursor from the feed" in invalid.stderr
    assert "there is no webhook 'nobody' (existing: backend)" in unknown.stderr
    assert "no server has delivered to it yet" in unseen.stderr
    assert unseen.exit_code == 1
