"""Backups are ordinary copies of the data directory: what comes back, and what does not."""

import shlex
import subprocess
from pathlib import Path

import pytest

from contract.images import PNG, SVG
from crash.traffic import Traffic, digest_of, repr_digest
from running import IMAGES, running

pytestmark = [pytest.mark.slow]

CARRIES_ATTRIBUTES = {
    "cp -r {source}/. {target}": False,
    "cp -a {source}/. {target}": True,
    "rsync -a {source}/ {target}": False,
    "rsync -aX {source}/ {target}": True,
    "tar -C {source} -c . | tar -C {target} -x": False,
    "tar -C {source} --xattrs -c . | tar -C {target} --xattrs -x": True,
}
IMAGE_FILES = {
    "a/cat.png": PNG + b"cat",
    "a/deeper/cat.bin": PNG + b"a picture by its content, not by its name",
    "drawing": SVG,
    "кошка/猫 1.jpg": b"nothing by its content, whatever its name",
    "large.bin": bytes(range(256)) * 20_000,
}
VANISHED = (1, 24)
"""How cp, tar (1) and rsync (24) say that a file went away, or changed, while they ran."""


def copied(command: str, source: Path, target: Path, *, running: bool = False) -> None:
    target.mkdir(exist_ok=True)
    line = command.format(source=shlex.quote(str(source)), target=shlex.quote(str(target)))
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0 or (running and ran.returncode in VANISHED), ran.stderr


@pytest.mark.parametrize("command", CARRIES_ATTRIBUTES)
def test_a_restored_copy_serves_every_image(tmp_path: Path, command: str) -> None:
    with running(tmp_path) as server, server.client() as client:
        for path, data in IMAGE_FILES.items():
            client.post(f"{IMAGES}/{path}", files={"file": data}).raise_for_status()
        before = {path: client.get(f"{IMAGES}/{path}") for path in IMAGE_FILES}
        listed = client.get(IMAGES).json()
        minted = server.minted
    copied(command, server.data, tmp_path / "restored")

    with running(tmp_path, data=tmp_path / "restored") as server:
        server.minted = minted  # the secret is in the copy, so tokens stay good
        with server.client() as client:
            assert client.get(IMAGES).json() == listed
            for path, data in IMAGE_FILES.items():
                answer = client.get(f"{IMAGES}/{path}")
                assert answer.content == data
                assert answer.headers["content-type"] == before[path].headers["content-type"]
                digest = answer.headers.get("repr-digest")
                known = before[path].headers["repr-digest"]
                assert digest == (known if CARRIES_ATTRIBUTES[command] else None)
            again = client.post(f"{IMAGES}/a/cat.png", files={"file": b"again"})
            assert again.status_code == 200
            assert client.delete(f"{IMAGES}/a/deeper/cat.bin").status_code == 200


# Not `rsync -aX`: it reads an attribute by the file's name, and opens the file a moment later, so
# that it may give an image that is replaced just then the hash of its predecessor.
@pytest.mark.parametrize("command", [line for line in CARRIES_ATTRIBUTES if "-aX" not in line])
def test_a_copy_of_a_store_that_is_being_written_to_holds_whole_images_only(
    tmp_path: Path, command: str
) -> None:
    with running(tmp_path, "--workers", "2") as server:
        traffic = Traffic(server, 1)
        traffic.start()
        traffic.wait_until_some_is_promised(100)
        copied(command, server.data, tmp_path / "restored", running=True)
        traffic.join()
        minted = server.minted

    with running(tmp_path, data=tmp_path / "restored") as server:
        server.minted = minted
        with server.client() as client:
            restored = client.get(IMAGES, params={"limit": 10_000}).json()
            assert len(restored) > 10
            for path in restored:
                answer = client.get(f"{IMAGES}/{path}")
                digest = digest_of(answer)
                assert digest is not None
                assert digest in traffic.sent[path]
                assert answer.headers.get("repr-digest") in (None, repr_digest(digest))


def test_a_restore_under_a_running_server_shows_whole_images_only(tmp_path: Path) -> None:
    data = {name: bytes([number]) * 4_000_000 for number, name in enumerate("abcdef")}
    with running(tmp_path) as server, server.client() as client:
        for name, original in data.items():
            client.post(f"{IMAGES}/{name}", files={"file": original}).raise_for_status()
        # Without the database, since SQLite may remove its log meanwhile.
        copied("cp -a {source}/compute {target}/", server.data, tmp_path / "backup")
        for name in data:
            client.post(f"{IMAGES}/{name}", files={"file": b"spoilt"}).raise_for_status()
        client.delete(f"{IMAGES}/a").raise_for_status()
        (tmp_path / "coming").mkdir()
        restoring = subprocess.Popen(
            ["rsync", "-a", f"--temp-dir={tmp_path}/coming", f"{tmp_path}/backup/compute",
             f"{server.data}/"],
        )  # fmt: skip
        looks = 0
        while restoring.poll() is None or looks == 0:
            looks += 1
            assert set(client.get(IMAGES).json()) <= set(data)
            for name, original in data.items():
                answer = client.get(f"{IMAGES}/{name}")
                assert answer.content in (original, b"spoilt") or answer.status_code == 404
        assert restoring.returncode == 0

        assert {name: client.get(f"{IMAGES}/{name}").content for name in data} == data
        assert client.post(f"{IMAGES}/a", files={"file": b"new"}).status_code == 200
