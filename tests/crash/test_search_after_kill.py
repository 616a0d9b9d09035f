"""After SIGKILL the search soon has what was saved and deleted right before."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from crash.rounds import WORKERS
from generation.carriers import png
from running import IMAGES, Server, running
from stillroom.features.database.clock import now
from stillroom.features.database.config import SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.database.tables import scans
from stillroom.features.search.values import INDEX_SCAN
from waiting import until

SEARCH = "/api/v1/storage/search"
SAVED = 40
DELETED = 10


def found(server: Server) -> set[str]:
    with server.client() as client:
        items = client.get(SEARCH, params={"limit": 1000}).json()["items"]
    return {item["path"] for item in items}


def compared(server: Server) -> bool:
    """Return whether the hourly comparison has run, so that the next one is an hour away."""
    config = SqliteConfig(server.data / ".stillroom/library.db")
    with migrating(config) as connection:
        asked = sa.select(scans.c.next_at).where(scans.c.name == INDEX_SCAN)
        next_at = connection.execute(asked).scalar_one_or_none()
    return next_at is not None and next_at > now()


@pytest.mark.slow
def test_a_start_finds_what_a_killed_server_had_not_written(tmp_path: Path) -> None:
    paths = [f"a/{number % 5}/{number}.png" for number in range(SAVED)]
    first, second = paths[:DELETED], paths[DELETED:]
    with running(tmp_path, *WORKERS, sweep_interval_seconds="0.2") as server:
        with server.client() as client, ThreadPoolExecutor(8) as pool:

            def save(path: str) -> httpx.Response:
                return client.post(f"{IMAGES}/{path}", files={"file": png({})})

            def delete(path: str) -> httpx.Response:
                return client.delete(f"{IMAGES}/{path}")

            assert {answer.status_code for answer in pool.map(save, first)} == {200}
            until(lambda: found(server) == {*first} and compared(server))
            answers = [*pool.map(delete, first), *pool.map(save, second)]
        server.kill()
        assert {answer.is_success for answer in answers} == {True}

    with running(tmp_path, *WORKERS) as server:
        until(lambda: found(server) == {*second})
