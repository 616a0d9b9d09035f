"""`docs/scaling.md`, From one process to three: its commands, with SeaweedFS in the place of R2."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.library import LIBRARY
from cluster.deployment import shared_environment
from pictures import picture
from running import IMAGES, running
from services.nginx import nginx_cdn
from services.ports import free_ports
from services.proxies import nginx_cluster
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "docs/sample.png"
SHIPPED_PORTS = ("8001", "8002", "8003")


@pytest.mark.slow
def test_a_newcomer_gets_from_one_process_to_three_by_the_page(
    tmp_path: Path, seaweed: SeaweedFS, database_url: str
) -> None:
    ask, check, serve, move, use = tutorial()
    front, *ports = free_ports(1 + len(SHIPPED_PORTS))
    for name in ("docs", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with (
        running(tmp_path, data=tmp_path / "stillroom-data") as one,
        one.client() as client,
    ):
        client.post(f"{IMAGES}/before/cat.png", files={"file": picture()})
        wanted = {"storage_key": "compute/before/cat.png", "relocate": False}
        assert client.post(f"{LIBRARY}/ingest", json=wanted).status_code == 200
    shell = Shell(tmp_path, dict(zip(SHIPPED_PORTS, ports, strict=True)))

    shell.run(ask)
    (tmp_path / "cdn").mkdir()
    with nginx_cdn(tmp_path / "cdn", seaweed.endpoint_url) as cdn, contextlib.ExitStack() as ends:
        ends.callback(seaweed.empty)
        ends.callback(shell.end)
        public = f"http://127.0.0.1:{front}"
        fill_in(tmp_path / "stillroom.env", seaweed, database_url, cdn, public)
        assert "ok    " in shell.run(check)
        ready = shell.run(check.splitlines()[0], serve)
        assert ready.count('"ready"') == len(ports), ready
        with nginx_cluster(tmp_path, front, *ports, max_upload_bytes=100 * 1024**2):
            listed = shell.run(check.splitlines()[0], move)
            assert "before/cat.png" in listed or "before/" in listed
            used = shell.run(check.splitlines()[0], "\n".join(move.splitlines()[1:3]), use)

    assert (tmp_path / "back.png").read_bytes() == SAMPLE.read_bytes()
    assert len(set(re.findall(r'"id":"([^"]+)"', used))) == 2  # that of before, and the new one
    for port in ports:
        assert "media library: PostgreSQL" in (tmp_path / f"server-{port}.log").read_text()


def tutorial() -> list[str]:
    """The commands of the section, block by block."""
    page = (ROOT / "docs/scaling.md").read_text()
    section = page[page.index("## From one process to three") : page.index("## While parts of it")]
    return re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def fill_in(file: Path, seaweed: SeaweedFS, database_url: str, cdn: str, public: str) -> None:
    """What the file says is to be changed, as an operator would."""
    values = {
        "R2_ENDPOINT_URL": seaweed.endpoint_url,
        "R2_BUCKET_NAME": BUCKET,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_PUBLIC_URL": cdn,
        "STILLROOM_DATABASE_URL": database_url,
        "STILLROOM_JWT_SECRET": os.urandom(32).hex(),
        "STILLROOM_PUBLIC_BASE_URL": public,
    }
    assert values.keys() <= shared_environment({}).keys()
    text = file.read_text()
    for name, value in values.items():
        text = re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
    file.write_text(text)


class Shell:
    """Runs commands as a reader would, with ports of its own; what they leave running it ends."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self._folder = folder
        self._ports = ports
        self._groups: list[int] = []

    def run(self, *blocks: str) -> str:
        script = "\n".join(("set -eu", "set -o pipefail", *blocks))
        for shipped, port in self._ports.items():
            script = re.sub(rf"\b{shipped}\b", str(port), script)
        inherited = ("STILLROOM_", "R2_")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(inherited)
        }
        with subprocess.Popen(
            ["bash", "-c", script],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as shell:
            self._groups.append(shell.pid)
            out, complaints = shell.communicate(timeout=100)
        assert shell.returncode == 0, f"{script}\n{out}\n{complaints}"
        return out

    def end(self) -> None:
        """SIGTERM to what is left of each script's group of processes."""
        for group in self._groups:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue
