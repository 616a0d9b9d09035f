"""A disk that fills up: 507, nothing half-saved, and room that comes back."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.loopback import Disk, loop_disk
from running import IMAGES, Server, running

pytestmark = [pytest.mark.root, pytest.mark.slow]

MIB = 1024**2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with loop_disk(tmp_path, kind="ext4", mib=64) as mounted:
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
                b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + data + b"\r\n--B--"
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
        assert client.post(f"{IMAGES}/again.bin", files={"file": bytes(size)}).status_code == 200


def test_a_failed_replacement_on_a_full_disk_keeps_the_old_image(server: Server) -> None:
    with server.client() as client:
        client.post(f"{IMAGES}/a.bin", files={"file": b"old"})

        answer = client.post(f"{IMAGES}/a.bin", files={"file": bytes(90 * MIB)})

        assert answer.status_code == 507
        assert client.get(f"{IMAGES}/a.bin").content == b"old"
