"""Thumbnails from a server as its users start it."""

import io
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from pictures import picture
from running import IMAGES, Server, is_gone, running
from waiting import until

WORKER = b"stillroom.features.pictures.worker"


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, "--workers", "2", derived_processes="1") as server:
        yield server


def decoders(server: Server) -> list[int]:
    """The decoding processes below a server."""
    servers = {server.process.pid, *server.children()}
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in servers and WORKER in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def made(server: Server) -> int:
    return sample(server, 'stillroom_derived_images_total{outcome="made"}')


def sample(server: Server, name: str) -> int:
    text = httpx.get(f"{server.url}/metrics").text
    found = re.search(rf"^{re.escape(name)} (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


@pytest.mark.both_paths(whole=True)
@pytest.mark.workers(whole=True)
def test_every_path_and_worker_gives_the_same_picture_and_the_image_as_before(
    server: Server, client: httpx.Client, folder: str
) -> None:
    image = picture(7, size=(300, 200))
    url = f"{IMAGES}/{folder}/a.png"
    client.post(url, files={"file": image}).raise_for_status()

    answers = []
    for _ in range(6):
        with server.client() as other:  # so that any worker may take it
            assert other.get(url).content == image
            answers.append(other.get(url, params={"width": 64}))
            assert other.get(url).content == image
            assert other.head(url).headers["content-length"] == str(len(image))

    assert {answer.status_code for answer in answers} == {200}
    assert len({(answer.content, answer.headers["etag"]) for answer in answers}) == 1
    assert Image.open(io.BytesIO(answers[0].content)).size == (64, 43)
    unchanged = {"if-none-match": answers[0].headers["etag"]}
    assert client.get(url, params={"width": 64}, headers=unchanged).status_code == 304
    assert client.get(url, headers=unchanged).status_code == 200
    assert client.get(IMAGES, params={"prefix": folder}).json() == [f"{folder}/a.png"]


def test_two_workers_make_a_picture_once_between_them(two_workers: Server) -> None:
    with two_workers.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": picture(size=(2000, 1500))})

    def ask(_: int) -> bytes:
        with two_workers.client() as client:
            answer = client.get(f"{IMAGES}/a.png", params={"width": 512})
        assert answer.status_code == 200, answer.text
        return answer.content

    with ThreadPoolExecutor(16) as pool:
        pictures = set(pool.map(ask, range(48)))

    assert len(pictures) == 1
    assert made(two_workers) == 1


def test_no_server_process_loads_a_decoder_and_none_is_left_by_a_stop(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": picture()})
        assert decoders(server) == []
        assert client.get(f"{IMAGES}/a.png?width=64").status_code == 200
        (decoder,) = decoders(server)

        assert "/PIL/" not in Path(f"/proc/{server.pid}/maps").read_text()
        assert "/PIL/" in Path(f"/proc/{decoder}/maps").read_text()
        assert server.stop() == 0
        assert is_gone(decoder)


def test_while_decoders_hang_everything_else_is_quick(tmp_path: Path) -> None:
    with (
        # No sync of others takes the 20 s.
        running(tmp_path, derived_processes="1", durability="none") as server,
        server.client() as client,
    ):
        image = picture()
        client.post(f"{IMAGES}/a.png", files={"file": image})
        client.get(f"{IMAGES}/a.png?width=64")
        (decoder,) = decoders(server)
        os.kill(decoder, signal.SIGSTOP)
        with ThreadPoolExecutor(8) as pool:
            waiting = [
                pool.submit(client.get, f"{IMAGES}/a.png?width={size}&format=jpeg")
                for size in (64, 128, 256)
            ]
            deadline = time.monotonic() + 15  # for a decoder they wait for 20 s
            while sample(server, "stillroom_requests_in_flight") < 4:  # with the scrape itself
                assert time.monotonic() < deadline
            for _ in range(5):
                assert client.get(f"{IMAGES}/a.png").content == image
                assert client.get(f"{IMAGES}/a.png?width=64").status_code == 200
                assert client.post(f"{IMAGES}/b.png", files={"file": image}).status_code == 200
            assert not any(answer.done() for answer in waiting)
            os.kill(decoder, signal.SIGKILL)
            statuses = sorted(answer.result().status_code for answer in waiting)

        assert statuses == [200, 200, 503]
        assert "Traceback" not in server.logged()


@pytest.mark.whole  # two servers
def test_a_killed_server_leaves_a_cache_that_the_next_one_uses(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": picture(size=(400, 400))})
        first = client.get(f"{IMAGES}/a.png?width=256")
        left = decoders(server)
        server.kill()
    until(lambda: all(is_gone(pid) for pid in left))

    with running(tmp_path) as server, server.client() as client:
        again = client.get(f"{IMAGES}/a.png?width=256")
        assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
        assert made(server) == 0
