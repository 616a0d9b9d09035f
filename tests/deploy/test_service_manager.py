"""What a service manager gives, and is told: credentials as files, and when we serve."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from running import STILLROOM, running

pytestmark = pytest.mark.slow


@pytest.fixture
def told(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket of a manager that waits for our word."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0"))
        listener.settimeout(60)
        yield listener


@pytest.mark.slow
@pytest.mark.parametrize(
    ("told", "workers"), [("path", "1"), ("abstract name", "2")], indirect=["told"]
)
def test_a_manager_is_told_once_that_we_serve_and_that_we_stop(
    told: socket.socket, tmp_path: Path, workers: str
) -> None:
    with running(tmp_path, "--workers", workers) as server:
        assert told.recv(1024) == b"READY=1"
        for _ in range(10):  # by whichever worker
            assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert server.stop() == 0
    assert told.recv(1024) == b"STOPPING=1"
    told.setblocking(False)
    with pytest.raises(BlockingIOError):
        told.recv(1024)


def test_a_manager_that_has_gone_is_nobodys_concern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with running(tmp_path) as server:
        assert server.stop() == 0
        assert "Traceback" not in server.logged()


def token(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STILLROOM")}
    return subprocess.run(
        [STILLROOM, "token", "--data-dir", "/proc/none"],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        check=False,
    )


def test_a_setting_can_be_a_credential(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "STILLROOM_JWT_SECRET").write_text("c" * 32 + "\n")
    (folder / "R2_SECRET_ACCESS_KEY").write_text("another\n")
    given = {"CREDENTIALS_DIRECTORY": str(folder)}

    printed = token(**given)

    assert (printed.returncode, printed.stderr) == (0, "")
    with running(tmp_path, jwt_secret="c" * 32) as server:
        headers = {"Authorization": f"Bearer {printed.stdout.strip()}"}
        assert httpx.get(server.images, headers=headers).status_code == 200
    # A variable wins, so that a setting can be tried out.
    assert token(**given, STILLROOM_JWT_SECRET="short").returncode == 2


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["no text", "a folder"])
def test_a_credential_that_cannot_be_read_stops_with_a_sentence(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "STILLROOM_JWT_SECRET"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)

    refused = token(CREDENTIALS_DIRECTORY=str(tmp_path))

    assert refused.returncode == 2
    assert refused.stderr.startswith("stillroom: ")
    assert "Traceback" not in refused.stderr


def test_without_a_folder_of_credentials_nothing_is_missing(tmp_path: Path) -> None:
    printed = token(CREDENTIALS_DIRECTORY=str(tmp_path / "none"), STILLROOM_JWT_SECRET="s" * 32)
    assert (printed.returncode, printed.stderr) == (0, "")
