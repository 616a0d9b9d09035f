"""A worker that is killed while it saves, and a server that goes away meanwhile."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from running import STILLROOM, running, wait_until_ready
from stillroom.client import ImageStore, Outcome, SavedImage
from waiting import until

IMAGES = 1000

WORKER = """
import sys
import threading
from stillroom.client import ImageStore

def image(number):
    return b"\\x89PNG\\r\\n\\x1a\\n" + number.to_bytes(4, "big") * (500 + number * 10)

def images():
    for number in range(1000):
        if number == int(sys.argv[1]):
            threading.Event().wait()  # it is killed before the end, however slow who kills it is
        yield f"run/{number:04}.png", image(number)

with ImageStore() as store:
    saved = store.save_many(images(), skip_same=True)
print(sum(not image.skipped for image in saved))
"""


def image(number: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + number.to_bytes(4, "big") * (500 + number * 10)


@pytest.mark.whole  # five processes
def test_a_worker_killed_and_started_again_ends_with_every_image_whole(tmp_path: Path) -> None:
    with running(tmp_path, durability="none") as server:
        environment = {
            **os.environ,
            "STILLROOM_URL": server.url,
            "STILLROOM_TOKEN": server.token(),
        }
        folder = server.data / "compute/run"
        kills = 0
        for stop_at in (random.Random(7).randrange(50, 300), 400, 700):
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, f"{stop_at + 200}"], env=environment
            )
            until(
                lambda: folder.exists() and len(list(folder.iterdir())) >= stop_at,  # noqa: B023  (at once)
                by=worker,
            )
            worker.send_signal(signal.SIGKILL)
            assert worker.wait() == -signal.SIGKILL
            kills += 1
            assert len(list(folder.iterdir())) < IMAGES, "killed too late to show anything"

        last = subprocess.run(
            [sys.executable, "-c", WORKER, "-1"], env=environment, check=True, capture_output=True
        )

        with ImageStore(server.url, server.token()) as store:
            found = {entry.path: entry.sha256 for entry in store.entries()}
        assert found == {
            f"run/{number:04}.png": hashlib.sha256(image(number)).hexdigest()
            for number in range(IMAGES)
        }
        assert len(list(folder.iterdir())) == IMAGES
        for number in range(IMAGES):
            assert (folder / f"{number:04}.png").read_bytes() == image(number)
        assert kills == 3
        assert 0 < int(last.stdout) <= IMAGES - 700, "what was there was not sent again"


def test_saving_goes_on_when_the_server_is_started_again(tmp_path: Path) -> None:
    images = {f"run/{number:04}.png": image(number) for number in range(300)}
    many = threading.Event()
    outcomes: list[str] = []
    seen: list[str] = []

    def note(outcome: Outcome[SavedImage]) -> None:
        seen.append(outcome.path)
        if len(seen) == 100:
            many.set()

    def save(url: str, token: str) -> None:
        with ImageStore(url, token, deadline_s=60) as store:
            outcomes.extend(image.path for image in store.save_many(images, each=note))

    with running(tmp_path, durability="none") as server:
        worker = threading.Thread(target=save, args=(server.url, server.token()))
        worker.start()
        assert many.wait(60)
        server.kill()
        with (tmp_path / "second.log").open("wb") as log:
            again = subprocess.Popen(
                [STILLROOM, "serve"], env=server.environment, stdout=log, stderr=log
            )
        second = replace(server, process=again)
        try:
            wait_until_ready(second)
            worker.join(60)
            assert not worker.is_alive()
        finally:
            second.stop()
    assert outcomes == list(images)
    for path, content in images.items():
        assert (server.data / "compute" / path).read_bytes() == content
