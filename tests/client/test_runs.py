"""Runs and ends by the SDK and by the commands, against a running server."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from command_line import Run
from running import Server
from stillroom.client import AsyncImageStore, ImageStore
from stillroom.errors import InvalidParameter, InvalidPath, RunConflict, RunNotFound

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.fixture
def waiting(server: Server) -> Iterator[ImageStore]:
    with ImageStore(server.url, server.token(), deadline_s=120) as opened:
        yield opened


def test_a_run_is_published_at_the_end_of_its_block(waiting: ImageStore, folder: str) -> None:
    with waiting.run(f"{folder}/7") as run:
        for number in range(3):
            saved = run.save(f"{number}.png", PNG + bytes([number]))
            assert saved.path == f"{folder}/7/{number}.png"
        run.save("2.png", PNG + b"again")
        assert (run.read().state, run.published) == ("open", None)

    assert run.published is not None
    assert [image.path for image in run.published.images] == [
        f"{folder}/7/{number}.png" for number in range(3)
    ]
    assert (run.published.state, run.published.count) == ("published", 3)
    assert run.read() == run.publish() == run.published
    (listed,) = waiting.runs(f"{folder}/", state="published", sort="-published")
    assert (listed.folder, listed.count) == (f"{folder}/7", 3)
    assert listed.published_at == run.published.published_at
    assert listed.published_at is not None
    assert abs(datetime.now(UTC) - listed.published_at) < timedelta(minutes=1)


def test_an_exception_leaves_a_run_open(waiting: ImageStore, folder: str) -> None:
    run = waiting.run(folder)

    def breaks() -> None:
        with run:
            run.save("a.png", PNG)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaks()

    assert run.published is None
    assert [found.state for found in waiting.runs(f"{folder}/")] == ["open"]


def test_what_an_earlier_attempt_has_left_is_noticed(waiting: ImageStore, folder: str) -> None:
    waiting.save(f"{folder}/left.png", PNG)

    with (
        pytest.raises(RunConflict, match="has 2 images, and 1 were expected"),
        waiting.run(folder) as run,
    ):
        run.save("a.png", PNG)
    with waiting.run(folder, expected=2) as run:
        run.save("a.png", PNG)

    assert run.published is not None
    assert waiting.publish_run(folder) == run.published


def test_a_deleted_run_says_what_goes(waiting: ImageStore, folder: str) -> None:
    with waiting.run(folder) as run:
        run.save("a.png", PNG)
    deleted = run.delete()

    assert (deleted.folder, deleted.marked, deleted.kept, deleted.newer) == (folder, 1, 0, 0)
    with pytest.raises(RunNotFound):
        waiting.run(f"{folder}/none").delete()
    with pytest.raises(InvalidPath):
        waiting.run(f"{folder}/")


def test_one_image_is_said_as_one(waiting: ImageStore, folder: str) -> None:
    waiting.save(f"{folder}/a.png", PNG)

    with pytest.raises(RunConflict, match="the run has 1 image, and 2 were expected") as refused:
        waiting.publish_run(folder, expected=2)
    assert refused.value.count is None, "the server does not tell it"


async def test_a_run_in_an_event_loop(server: Server, folder: str) -> None:
    async with AsyncImageStore(server.url, server.token(), deadline_s=120) as store:
        async with store.run(folder) as run:
            await run.save("a.png", PNG, expires_in=timedelta(days=1))
        assert run.published is not None
        assert await run.read() == await store.publish_run(folder, expected=1) == run.published
        assert [found.folder async for found in store.runs(f"{folder}/")] == [folder]
        with pytest.raises(ZeroDivisionError):
            async with store.run(f"{folder}-2") as broken:
                raise ZeroDivisionError
        assert broken.published is None
        assert (await run.delete()).marked == 1


@pytest.mark.parametrize("week", [timedelta(days=7), "7d", 7 * 86_400, "604800"])
async def test_an_image_has_an_end(
    store: AsyncImageStore, folder: str, week: timedelta | str | int
) -> None:
    saved = await store.save(f"{folder}/a.png", PNG, expires_in=week)
    assert saved.expires_at is not None
    assert saved.expires_at - datetime.now(UTC) > timedelta(days=6, hours=23)
    assert (await store.save(f"{folder}/a.png", PNG)).expires_at is None

    many = await store.save_many(
        {f"{folder}/a.png": PNG}, skip_same=True, expires_in=timedelta(hours=1)
    )

    assert [one.skipped for one in many] == [False]
    assert many[0].expires_at is not None


@pytest.mark.parametrize("soon", ["soon", "7 d", "-1", 1.5, True, "1d\r\nx: y"])
async def test_what_is_no_duration_says_what_one_is(
    store: AsyncImageStore, folder: str, soon: Any
) -> None:
    with pytest.raises(InvalidParameter, match="such as '90s', '15m', '12h' or '7d'"):
        await store.save(f"{folder}/a.png", PNG, expires_in=soon)
    with pytest.raises(InvalidParameter, match="such as '90s', '15m', '12h' or '7d'"):
        await store.signed_url(f"{folder}/a.png", expires_in=soon)


async def test_a_signed_url_takes_seconds_and_texts(store: AsyncImageStore, folder: str) -> None:
    await store.save(f"{folder}/a.png", PNG)

    for minute in (60, "1m"):
        url = await store.signed_url(f"{folder}/a.png", expires_in=minute)
        assert 0 < int(url.partition("expires=")[2].partition("&")[0]) - time.time() < 120


def test_runs_on_the_command_line(run: Run, folder: str, tmp_path: Path) -> None:
    def ran(*words: str) -> tuple[int, str, str]:
        done = run(*words)
        return done.code, done.out, done.err

    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG + name.encode())
    assert ran("put", "a.png", "b.png", f"{folder}/7/", "--expires-in", "7d")[0] == 0
    assert ran("put", "a.png", f"{folder}/7/", "--expires-in", "soon")[0] == 2
    code, _, why = ran("runs", "publish", f"{folder}/7", "--expected", "3")
    assert (code, "has 2 images, and 3 were expected" in why) == (1, True)
    assert ran("runs", "publish", f"{folder}/7/", "--expected", "2")[:2] == (
        0,
        f"published {folder}/7\n",
    )
    code, out, _ = ran("runs", "ls", f"{folder}/", "--state", "published")
    assert (code, out.split()[1:]) == (0, ["2", f"{folder}/7"])
    assert ran("runs", "ls", f"{folder}/", "--state", "open")[1] == ""
    assert ran("put", "a.png", f"{folder}/8/")[0] == 0
    assert ran("runs", "ls", f"{folder}/") == (0, out, "")
    everything = ran("runs", "ls", f"{folder}/", "--state", "all")[1].splitlines()
    assert [line.split()[-1] for line in everything] == [f"{folder}/7", f"{folder}/8"]
    code, out, _ = ran("runs", "show", f"{folder}/7", "--json")
    assert [image["path"] for image in json.loads(out)["images"]] == [
        f"{folder}/7/a.png",
        f"{folder}/7/b.png",
    ]
    assert ran("runs", "show", f"{folder}/7")[1].splitlines()[0].endswith(f"{folder}/7/a.png")
    code, _, why = ran("runs", "rm", f"{folder}/7")
    assert (code, "2 images would be deleted: add --yes" in why) == (2, True)
    assert "2 images" in ran("runs", "rm", f"{folder}/7", "--dry-run")[1]
    told = json.loads(ran("runs", "rm", f"{folder}/7", "--dry-run", "--json")[1])
    assert (told["result"], told["images"]) == ("would delete", 2)
    assert ran("runs", "rm", f"{folder}/7", "--yes") == (0, "", "2 images marked for deletion\n")
    told = json.loads(ran("runs", "rm", f"{folder}/7", "--yes", "--json")[1])
    numbers = {"marked": 2, "kept": 0, "newer": 0}
    assert told == {"folder": f"{folder}/7", **numbers, "trash_id": None}
    assert ran("runs", "show", f"{folder}/none")[0] == 3
