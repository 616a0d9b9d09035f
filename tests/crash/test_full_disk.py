"""A disk that is full or may not be written to: 507 or 503, nothing half-saved, room comes back."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.loopback import Disk, loop_disk
from running import IMAGES, Server, running
from waiting import until

pytestmark = [pytest.mark.root, pytest.mark.slow]

MIB = 1024**2


@pytest.fixture(params=["ext4", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    smallest_mib = {"ext4": 64, "xfs": 300}  # mkfs.xfs makes no smaller ones
    with loop_disk(tmp_path, kind=request.param, mib=smallest_mib[request.param]) as mounted:
        # Most of it is taken beforehand, so that the rest is quickly full.
        room = os.statvfs(mounted.mount)
        with (mounted.mount / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, room.f_bavail * room.f_frsize - 25 * MIB)
        yield mounted


@pytest.fixture
def server(disk: Disk, tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, data=disk.mount / "data") as started:
        yield started


@pytest.mark.parametrize("size", [100_000, 3 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("declared", [True, False], ids=["length known", "chunked"])
def test_a_full_disk_is_507_and_everything_else_goes_on(
    server: Server, size: int, declared: bool
) -> None:
    saved: dict[str, str] = {}
    with server.client() as client:
        for number in range(10_000):
            data = os.urandom(size)
            path = f"{number}.bin"
            form = (
                b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
                + data
                + b"\r\n--B--"
            )
            answer = client.post(
                f"{IMAGES}/{path}",
                content=form if declared else iter([form]),
                headers={"Content-Type": "multipart/form-data; boundary=B"},
            )
            if answer.status_code == 507:
                break
            assert answer.status_code == 200, answer.text
            saved[path] = hashlib.sha256(data).hexdigest()
        assert answer.status_code == 507
        assert len(saved) > 5
        assert isinstance(answer.json()["detail"], str)
        assert client.head(f"{IMAGES}/{path}").status_code == 404
        assert os.listdir(server.data / ".stillroom/staging") == []

        listed = client.get(IMAGES, params={"limit": 10_000}).json()
        assert sorted(listed) == sorted(saved)
        for name, digest in saved.items():
            assert hashlib.sha256(client.get(f"{IMAGES}/{name}").content).hexdigest() == digest

        for name in list(saved)[:5]:
            assert client.delete(f"{IMAGES}/{name}").status_code == 200
        # The index, on the same disk, catches up meanwhile and may take the room for a moment.
        until(lambda: client.post(f"{IMAGES}/again.bin", files={"file": bytes(size)}).is_success)


def test_a_failed_replacement_on_a_full_disk_keeps_the_old_image(server: Server) -> None:
    with server.client() as client:
        client.post(f"{IMAGES}/a.bin", files={"file": b"old"})

        answer = client.post(f"{IMAGES}/a.bin", files={"file": bytes(90 * MIB)})

        assert answer.status_code == 507
        assert client.get(f"{IMAGES}/a.bin").content == b"old"


def test_without_inodes_saves_are_507_and_everything_else_goes_on(
    tmp_path: Path, database_url: str
) -> None:
    # SQLite has two more files during each transaction: they would give inodes back meanwhile.
    with (
        loop_disk(tmp_path, kind="ext4", mib=64, inodes=64) as disk,
        running(tmp_path, data=disk.mount / "data", database_url=database_url) as server,
        server.client() as client,
    ):
        saved = []
        for number in range(100):
            answer = client.post(f"{IMAGES}/{number}.bin", files={"file": b"small"})
            if answer.status_code == 507:
                break
            assert answer.status_code == 200, answer.text
            saved.append(f"{number}.bin")
        assert answer.status_code == 507
        assert len(saved) > 5
        assert os.statvfs(disk.mount).f_bavail > 1000, "it is inodes that are missing"
        assert client.post(f"{IMAGES}/new/folder.bin", files={"file": b"x"}).status_code == 507
        replacing = client.post(f"{IMAGES}/{saved[0]}", files={"file": b"another"})
        assert replacing.status_code == 507
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "no space" in ready.json()["detail"]

        assert sorted(client.get(IMAGES).json()) == sorted(saved)
        assert all(client.get(f"{IMAGES}/{name}").content == b"small" for name in saved)
        for name in saved[:3]:
            assert client.delete(f"{IMAGES}/{name}").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.post(f"{IMAGES}/new/folder.bin", files={"file": b"x"}).status_code == 200


def test_a_filesystem_that_turns_read_only_is_503_until_it_is_repaired(tmp_path: Path) -> None:
    with loop_disk(tmp_path, kind="ext4", mib=64, options="loop,errors=remount-ro") as disk:
        data = disk.mount / "data"
        with running(tmp_path, data=data) as server, server.client() as client:
            client.post(f"{IMAGES}/a/b.bin", files={"file": b"old"}).raise_for_status()
            disk.break_down()

            for answer in (
                client.post(f"{IMAGES}/a/b.bin", files={"file": b"new"}),
                client.post(f"{IMAGES}/c/d.bin", files={"file": b"new"}),
                client.delete(f"{IMAGES}/a/b.bin"),
                client.get("/readyz"),
            ):
                assert answer.status_code == 503
                assert isinstance(answer.json()["detail"], str)
            assert client.get(f"{IMAGES}/a/b.bin").content == b"old"
            assert client.get(IMAGES).json() == ["a/b.bin"]
        disk.repair()
        with running(tmp_path, data=data) as server, server.client() as client:
            assert client.get(f"{IMAGES}/a/b.bin").content == b"old"
            assert client.get(IMAGES).json() == ["a/b.bin"]
            assert client.post(f"{IMAGES}/c/d.bin", files={"file": b"new"}).status_code == 200


def test_what_may_not_be_written_is_503_and_works_once_it_may(tmp_path: Path) -> None:
    # Still root, but one whom permissions bind: what a user's own server is to its own files.
    bound = "setpriv --inh-caps=-all --bounding-set=-all"
    with running(tmp_path, under=bound) as server, server.client() as client:
        for name in ("closed/a.bin", "open/b.bin"):
            client.post(f"{IMAGES}/{name}", files={"file": b"old"}).raise_for_status()
        closed = server.data / "compute/closed"
        closed.chmod(0o500)
        (server.data / "compute/open/b.bin").chmod(0)

        for answer in (
            client.post(f"{IMAGES}/closed/a.bin", files={"file": b"new"}),
            client.post(f"{IMAGES}/closed/new.bin", files={"file": b"new"}),
            client.post(f"{IMAGES}/closed/deeper/new.bin", files={"file": b"new"}),
            client.delete(f"{IMAGES}/closed/a.bin"),
            client.get(f"{IMAGES}/open/b.bin"),
        ):
            assert answer.status_code == 503
        assert client.get(f"{IMAGES}/closed/a.bin").content == b"old"
        assert client.post(f"{IMAGES}/open/c.bin", files={"file": b"new"}).status_code == 200
        assert os.listdir(server.data / ".stillroom/staging") == []

        closed.chmod(0o700)
        (server.data / "compute/open/b.bin").chmod(0o600)
        assert client.post(f"{IMAGES}/closed/a.bin", files={"file": b"new"}).status_code == 200
        assert client.get(f"{IMAGES}/open/b.bin").content == b"old"


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)  # XFS can then create no file at all
def test_a_server_starts_on_a_full_disk_and_images_can_be_read_and_deleted(
    disk: Disk, server: Server, tmp_path: Path
) -> None:
    with server.client() as client:
        client.post(f"{IMAGES}/a.bin", files={"file": b"kept"}).raise_for_status()
    server.stop()
    rest = os.statvfs(disk.mount)
    with (disk.mount / "rest").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, rest.f_bavail * rest.f_frsize - MIB)
        size = os.fstat(file.fileno()).st_size
        with contextlib.suppress(OSError):  # until nothing is left
            while True:
                size += os.pwrite(file.fileno(), bytes(512), size)

    with running(tmp_path, data=disk.mount / "data") as restarted, restarted.client() as client:
        assert client.get(f"{IMAGES}/a.bin").content == b"kept"
        assert client.post(f"{IMAGES}/b.bin", files={"file": bytes(MIB)}).status_code in (503, 507)
        assert client.delete(f"{IMAGES}/a.bin").status_code == 200
