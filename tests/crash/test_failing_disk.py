"""A disk that fails under a serving store: which answers, and what goes on."""

import os
from pathlib import Path

import pytest

from crash.faults import FaultFile
from crash.rounds import WORKERS
from running import IMAGES, running
from services.process import paused

pytestmark = [pytest.mark.slow]

LARGE = bytes(3 * 1024**2)


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultFile:
    return FaultFile(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("call", "does", "status"),
    [
        ("writev", "ENOSPC", 507),
        ("writev", "EDQUOT", 507),
        ("writev", "EIO", 503),
        ("posix_fallocate", "ENOSPC", 507),
        ("setxattr", "ENOSPC", 507),
        ("link", "EDQUOT", 507),
        ("link", "EMFILE", 503),
        ("mkdir", "ENOSPC", 507),
        ("open", "EMFILE", 503),
    ],
)
def test_a_call_that_fails_is_an_answer_that_changes_nothing(
    tmp_path: Path, faults: FaultFile, call: str, does: str, status: int
) -> None:
    with running(tmp_path) as server, server.client() as client:
        client.post(f"{IMAGES}/a/b.bin", files={"file": b"old"}).raise_for_status()
        faults.tell(call, does)

        refused = [client.post(f"{IMAGES}/new/folder/b.bin", files={"file": LARGE})]
        if call != "mkdir":  # there is none to make where everything is there
            refused.append(client.post(f"{IMAGES}/a/b.bin", files={"file": LARGE}))

        assert [answer.status_code for answer in refused] == [status] * len(refused)
        assert all(isinstance(answer.json()["detail"], str) for answer in refused)
        assert status != 503 or all("retry-after" in answer.headers for answer in refused)
        assert client.get(f"{IMAGES}/a/b.bin").content == b"old"
        assert client.get(IMAGES).json() == ["a/b.bin"]
        faults.end()
        assert os.listdir(server.data / ".stillroom/staging") == []
        assert client.post(f"{IMAGES}/new/folder/b.bin", files={"file": LARGE}).status_code == 200
        assert client.get("/readyz").status_code == 200
    assert "Traceback" not in server.logged()


@pytest.mark.parametrize(
    ("call", "of", "deed"),
    [
        ("fsync", "file", "save"),
        ("fsync", "folder", "save"),
        ("fsync", "folder", "delete"),
        ("stat", None, "save"),  # the look behind a folder's sync, which XFS needs
    ],
)
def test_after_a_failed_sync_every_worker_is_read_only_and_says_why(
    tmp_path: Path, faults: FaultFile, call: str, of: str | None, deed: str
) -> None:
    with running(tmp_path, *WORKERS) as server:
        with server.client() as client:
            client.post(f"{IMAGES}/a/old.bin", files={"file": b"old"}).raise_for_status()
            client.post(f"{IMAGES}/a/gone.bin", files={"file": b"old"}).raise_for_status()
            faults.tell(call, "EIO", of=of)
            if deed == "save":
                failed = client.post(f"{IMAGES}/a/new.bin", files={"file": b"new"})
            else:
                failed = client.delete(f"{IMAGES}/a/gone.bin")
            faults.end()
        assert failed.status_code == 503
        assert "retry-after" in failed.headers

        workers = server.children()
        assert len(workers) == 2
        for worker in workers:
            others = [pid for pid in server.children() if pid != worker]
            with paused(others), server.client() as client:
                ready = client.get("/readyz")
                assert ready.status_code == 503
                assert (
                    "read-only, because writing to the disk (fsync) failed"
                    in ready.json()["detail"]
                )
                for answer in (
                    client.post(f"{IMAGES}/a/other.bin", files={"file": b"other"}),
                    client.delete(f"{IMAGES}/a/old.bin"),
                ):
                    assert answer.status_code == 503
                    assert answer.json()["code"] == "read_only"
                assert client.get(f"{IMAGES}/a/old.bin").content == b"old"
                assert "a/other.bin" not in client.get(IMAGES).json()

    with running(tmp_path, *WORKERS) as server, server.client() as client:
        assert client.get("/readyz").status_code == 200
        assert client.post(f"{IMAGES}/a/new.bin", files={"file": b"new"}).status_code == 200
