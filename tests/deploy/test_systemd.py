"""The units of deploy/systemd: what systemd says of them, and the service that it runs by them."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pictures import picture
from running import IMAGES, STILLROOM, free_port, parsed
from services.proxies import DEPLOY
from services.seaweedfs import BUCKET, KEY_ID, SeaweedFS
from services.seaweedfs import SECRET as SECRET_KEY
from services.systemd import Manager, systemd
from stillroom.settings import AllSettings
from waiting import until

# Two at once would share one tree of control groups.
pytestmark = pytest.mark.xdist_group("systemd")

UNITS = DEPLOY / "systemd"
SECRET = "a secret of 32 bytes for tests only"
MAX_EXPOSURE = 1.5
"""Of `systemd-analyze security`, from 0 to 10; docs/deploying.md promises it."""


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    assert shutil.which("systemd-analyze"), "systemd is missing: apt-get install systemd"
    return subprocess.run(
        ["systemd-analyze", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )


def settings_of(unit: str) -> list[tuple[str, str]]:
    """The lines of a unit, in order."""
    text = (UNITS / unit).read_text()
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    here = tmp_path / "stillroom"
    here.write_text("#!/bin/sh\n")
    here.chmod(0o755)
    for file in UNITS.iterdir():
        text = file.read_text().replace("/opt/stillroom/bin/stillroom", str(here))
        (tmp_path / file.name).write_text(text)

    checked = analyze(
        "verify", "--man=no", *(str(tmp_path / file.name) for file in UNITS.iterdir())
    )

    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("unit", ["stillroom.service", "stillroom-verify.service"])
def test_a_service_may_do_little(unit: str) -> None:
    said = analyze("security", "--offline=true", "--no-pager", str(UNITS / unit))

    exposure = re.search(rf"Overall exposure level for {unit}: ([\d.]+)", said.stdout)
    assert exposure, said.stdout + said.stderr
    assert float(exposure[1]) <= MAX_EXPOSURE, said.stdout


def test_both_services_may_do_the_same() -> None:
    def of(unit: str) -> list[tuple[str, str]]:
        lines = settings_of(unit)
        begin = lines.index(("StateDirectory", "stillroom"))
        return [line for line in lines[begin:] if line[0] != "WantedBy"]

    assert of("stillroom.service") == of("stillroom-verify.service")


def test_a_stop_has_the_time_that_answers_under_way_have() -> None:
    lines = dict(settings_of("stillroom.service"))

    drained = AllSettings.model_fields["drain_seconds"].default
    assert int(lines["TimeoutStopSec"]) >= drained + 5 + 5
    assert lines["KillMode"] == "mixed"


# Run by a real systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with systemd(tmp_path / "units") as booted:
        booted.write("/etc/credstore/STILLROOM_JWT_SECRET", f"{SECRET}\n")
        yield booted


def configure(manager: Manager, **settings: str) -> str:
    """Write the settings; the URL that the server will have."""
    port = free_port()
    lines = {"port": str(port), "min_free_bytes": "0", **settings}
    text = "".join(f"STILLROOM_{name.upper()}={value}\n" for name, value in lines.items())
    manager.write("/etc/stillroom/stillroom.env", text)
    return f"http://127.0.0.1:{port}"


def token() -> str:
    environment = {**os.environ, "STILLROOM_JWT_SECRET": SECRET}
    return subprocess.run(
        [STILLROOM, "token"], check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_serves_with_all_its_bounds(manager: Manager, workers: str) -> None:
    url = configure(manager, workers=workers)

    started = manager.run("systemctl", "start", "stillroom")

    assert started.returncode == 0, started.stderr + manager.read("/run/stillroom.log")
    image = picture()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token()}"}) as client:
        assert client.get("/readyz").status_code == 200  # at once: systemd was told
        saved = client.post(f"{IMAGES}/a/cat.png", files={"file": image}).raise_for_status().json()
        assert client.get(f"{IMAGES}/a/cat.png").content == image
        assert client.get(f"{IMAGES}/a/cat.png?width=64").status_code == 200
        library = f"{IMAGES.removesuffix('storage/images')}media-resources"
        ingested = client.post(f"{library}/ingest", json={"storage_key": "compute/a/cat.png"})
        assert ingested.status_code == 200, ingested.text
        assert client.get(library).status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.delete(f"{IMAGES}/a/cat.png").json() == {"path": "a/cat.png"}
    assert saved["sha256"]
    log = manager.read("/run/stillroom.log")
    assert "(openat2, O_TMPFILE, attributes, durable, " in log
    assert "made a token secret" not in log  # it came as a credential
    assert SECRET not in manager.read(f"/proc/{manager.shown('stillroom', 'MainPID')}/environ")
    status = manager.read(f"/proc/{manager.shown('stillroom', 'MainPID')}/status")
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert re.search(r"^Uid:\t10001\b", status, re.MULTILINE)

    assert manager.run("systemctl", "stop", "stillroom").returncode == 0
    assert manager.shown("stillroom", "Result") == "success"
    assert "Traceback" not in manager.read("/run/stillroom.log")
    verified = manager.run("systemctl", "start", "stillroom-verify")
    assert verified.returncode == 0, verified.stderr


@pytest.mark.root
@pytest.mark.slow
def test_three_workers_on_a_bucket_and_postgresql_have_all_they_need(
    manager: Manager, seaweed: SeaweedFS, database_url: str
) -> None:
    """As docs/deploying.md has it: addresses are settings, secrets are credentials."""
    url = configure(manager, workers="3")
    manager.write("/etc/credstore/STILLROOM_DATABASE_URL", database_url)
    manager.write("/etc/credstore/R2_SECRET_ACCESS_KEY", f"{SECRET_KEY}\n")
    manager.append(
        "/etc/stillroom/stillroom.env",
        f"R2_ENDPOINT_URL={seaweed.endpoint_url}\nR2_ACCESS_KEY_ID={KEY_ID}\n"
        f"R2_BUCKET_NAME={BUCKET}\n",
    )

    started = manager.run("systemctl", "start", "stillroom")

    assert started.returncode == 0, started.stderr + manager.read("/run/stillroom.log")
    log = manager.read("/run/stillroom.log")
    assert f"R2ImageStorage in bucket '{BUCKET}'" in log
    assert "warning" not in log
    image, headers = picture(), {"Authorization": f"Bearer {token()}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        client.post(f"{IMAGES}/a/cat.png", files={"file": image}).raise_for_status()
        asked = {"storage_key": "compute/a/cat.png"}
        library = f"{IMAGES.removesuffix('storage/images')}media-resources"
        resource = client.post(f"{library}/ingest", json=asked).raise_for_status().json()
        where = client.get(f"{library}/{resource['id']}/file").headers["location"]
        assert httpx.get(where).content == image
    assert manager.run("systemctl", "start", "stillroom-verify").returncode == 0
    assert manager.run("systemctl", "stop", "stillroom").returncode == 0
    assert "Traceback" not in manager.read("/run/stillroom.log")
    seaweed.empty()


@pytest.mark.root
@pytest.mark.slow
def test_a_stop_by_systemd_lets_an_upload_end(manager: Manager) -> None:
    url = httpx.URL(configure(manager, workers="2"))
    assert manager.run("systemctl", "start", "stillroom").returncode == 0
    begin = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    end = b"\r\n--B--\r\n"
    with socket.create_connection((url.host, url.port or 0), timeout=60) as connection:
        connection.sendall(
            f"POST {IMAGES}/late.bin HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token()}\r\n"
            "Content-Type: multipart/form-data; boundary=B\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(begin) + 7 + len(end)}\r\n\r\n".encode()
        )
        assert b"100 Continue" in connection.recv(1024)
        connection.sendall(begin)
        stopping = threading.Thread(target=manager.run, args=("systemctl", "stop", "stillroom"))
        stopping.start()
        until_refused(url)
        connection.sendall(b"the end" + end)
        assert parsed(connection.recv(65_536)).status == 200
    stopping.join()
    assert manager.shown("stillroom", "Result") == "success"


def until_refused(url: httpx.URL) -> None:
    """Wait until no connection is accepted any more."""
    with contextlib.suppress(ConnectionRefusedError):
        until(lambda: socket.create_connection((url.host, url.port or 0)).close())


@pytest.mark.root
@pytest.mark.slow
def test_settings_that_cannot_work_end_the_start_once(manager: Manager) -> None:
    configure(manager, public_base_url="ftp://x")

    assert manager.run("systemctl", "start", "stillroom").returncode != 0

    assert manager.shown("stillroom", "ExecMainStatus") == "2"
    assert manager.shown("stillroom", "ActiveState") == "failed"
    assert "STILLROOM_PUBLIC_BASE_URL" in manager.read("/run/stillroom.log")
