"""Files that once stopped a worker for ever, on a real server: others are served, and it ends."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from generation import carriers as at
from generation.hostile_files import HOSTILE
from running import IMAGES, Server, running
from waiting import until

METADATA = "/api/v1/storage/metadata"
SEARCH = "/api/v1/storage/search"
OTHER = "other.png"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: a file that stops it must stop no other test."""
    with running(tmp_path_factory.mktemp("hostile")) as server:
        with server.client() as client:
            save(client, OTHER, at.png({"parameters": "a vixen\nSteps: 1, Seed: 2, Size: 3x3"}))
        yield server


def save(client: httpx.Client, path: str, data: bytes) -> None:
    answer = client.post(f"{IMAGES}/{path}", files={"file": ("a", data)})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", HOSTILE)
def test_others_are_served_while_such_a_file_is_saved_and_read(server: Server, name: str) -> None:
    path = f"{name.replace(' ', '-')}.png"
    with server.client() as client, server.client() as other, ThreadPoolExecutor(4) as pool:
        save(client, path, HOSTILE[name]())
        reading = [pool.submit(client.get, f"{METADATA}/{path}") for _ in range(4)]
        while not all(one.done() for one in reading):
            assert other.get(f"{IMAGES}/{OTHER}").status_code == 200
        answers = [one.result() for one in reading]

    assert [answer.status_code for answer in answers] == [200] * 4


def test_what_is_saved_after_them_is_found(server: Server) -> None:
    with server.client() as client:
        for number, made in enumerate(HOSTILE.values()):
            save(client, f"before/{number}.png", made())
        save(client, "later.png", at.png({"parameters": "a badger\nSteps: 1, Seed: 2, Size: 3x3"}))

        found = until(lambda: client.get(SEARCH, params={"q": "badger"}).json()["items"])
        counted = httpx.get(f"{server.url}/metrics").text

    assert [one["path"] for one in found] == ["later.png"]
    (line,) = [one for one in counted.splitlines() if one.startswith("stillroom_parsing_exceeded")
               and "_created" not in one]  # fmt: skip
    assert float(line.split()[1]) > 0


@pytest.mark.whole
def test_the_server_ends_while_such_files_are_read(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client, ThreadPoolExecutor(8) as pool:
        for number, made in enumerate(HOSTILE.values()):
            save(client, f"{number}.png", made())
        reading = [
            pool.submit(client.get, f"{METADATA}/{number}.png")
            for _ in range(3)
            for number in range(len(HOSTILE))
        ]
        until(lambda: any(one.done() for one in reading))

        assert server.stop() == 0
        assert "Traceback" not in server.logged()
        for one in reading:
            one.exception()  # answered, or refused by a server that ends
