"""A full temporary filesystem ends no worker; nor does a hole in a mapped file of a full disk."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from running import IMAGES, STILLROOM, Server, running
from waiting import until

pytestmark = [pytest.mark.root, pytest.mark.slow]


@contextlib.contextmanager
def small_tmpfs(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(4096))


def ask_for_new_numbers(server: Server) -> None:
    """Answers of kinds that were not counted before need new room in the files of numbers."""
    for number in range(40):
        httpx.get(f"{server.url}/none/{number}")
        httpx.request(["PUT", "PATCH", "OPTIONS", "HEAD"][number % 4], f"{server.images}/a.png")


@pytest.mark.parametrize("form", ["console", "json"])
def test_workers_outlive_a_temporary_filesystem_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with small_tmpfs(tmp_path / "tmp", "2m") as temporary:
        monkeypatch.setenv("TMPDIR", str(temporary))
        with running(tmp_path, "--workers", "2", log_format=form) as server:
            workers = server.children()
            fill(temporary)
            ask_for_new_numbers(server)
            with server.client() as client:
                for number in range(50):
                    saved = client.post(f"{IMAGES}/{number}.png", files={"file": b"x"})
                    assert saved.status_code == 200
            assert sorted(server.children()) == sorted(workers)

            os.kill(workers[0], signal.SIGKILL)

            # The supervisor notices, and starts another.
            until(lambda: len([pid for pid in server.children() if pid != workers[0]]) >= 2)
            until(lambda: "metrics of this worker are missing" in server.logged())
            new = sorted(server.children())
            ask_for_new_numbers(server)
            for _ in range(50):
                with server.client() as client:
                    assert client.get(f"{IMAGES}/1.png").content == b"x"
            assert httpx.get(f"{server.url}/metrics").status_code == 200
            assert sorted(server.children()) == new
            assert "SIGKILL" in server.logged()


def test_a_worker_starts_where_the_temporary_filesystem_is_full_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_tmpfs(tmp_path / "tmp", "64k") as temporary:  # less than the files of one worker
        monkeypatch.setenv("TMPDIR", str(temporary))
        with running(tmp_path, "--workers", "2") as server, server.client() as client:
            workers = server.children()
            ask_for_new_numbers(server)
            assert client.post(f"{IMAGES}/a.png", files={"file": b"x"}).status_code == 200
            assert client.get("/metrics").status_code == 200
            assert sorted(server.children()) == sorted(workers)


def test_a_hole_in_the_state_on_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "disk", "8m") as disk:  # a tmpfs is full to the last page
        data = disk / "data"
        with running(tmp_path, data=data):
            pass
        state = data / ".stillroom/state"
        state.unlink()
        with state.open("wb") as hollow:  # as `cp --sparse=always` leaves it
            hollow.truncate(16)
        fill(disk)

        started = subprocess.run(
            [STILLROOM, "serve", "--data-dir", str(data), "--port", "0"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

        assert started.returncode > 0, "it was ended by a signal"
        assert "no space" in started.stderr
        (disk / "ballast").unlink()
        with running(tmp_path, data=data) as server, server.client() as client:
            assert client.post(f"{IMAGES}/a.png", files={"file": b"x"}).status_code == 200
