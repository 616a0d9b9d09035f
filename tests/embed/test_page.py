"""docs/embedding.md as a reader follows it: two files, a real Celery, a disk or a bucket."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from running import IMAGES, Server, free_port, wait_until_ready
from services.seaweedfs import SeaweedFS, bucket_variables
from surroundings import inherited
from waiting import until_equal

pytestmark = [pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"
SECRET = "a secret of 32 bytes for tests only"
BINARIES = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(params=["disk", "bucket"])
def environment(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    found = {
        **inherited(),
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
        "STILLROOM_MIN_FREE_BYTES": "0",
        "STILLROOM_DELETION_GRACE_SECONDS": "0",
        "STILLROOM_SWEEP_INTERVAL_SECONDS": "0.2",
    }
    if request.param == "disk":
        yield found
        return
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    written = re.findall(r"(\w+)=\S", blocks("sh")[-1])
    real = {
        **bucket_variables(seaweed),
        "R2_PUBLIC_URL": f"{seaweed.endpoint_url}/stillroom",
        "STILLROOM_DATABASE_URL": request.getfixturevalue("database_url"),
        "STILLROOM_PUBLIC_BASE_URL": "https://compute.example.com",
        "STILLROOM_JWT_SECRET": SECRET,
    }
    assert set(written) == real.keys()
    yield found | real
    seaweed.empty()


@contextlib.contextmanager
def started(command: str, folder: Path, environment: dict[str, str]) -> Iterator[Server]:
    """A command of the page, in a folder of its own; it is stopped afterwards."""
    log = folder / f"{command.split(maxsplit=1)[0]}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command.split(), cwd=folder, env=environment, stdout=stream, stderr=stream
        )
    try:
        yield Server(process, folder / "stillroom-data", 0, log, environment)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.whole
def test_the_compute_server_of_the_page_makes_lists_serves_and_keeps_images(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    tasks, compute, _ = blocks("python")
    assert len((tasks + compute).replace("\n\n", "\n").splitlines()) <= 40
    (tmp_path / "tasks.py").write_text(tasks)
    (tmp_path / "compute_server.py").write_text(compute)
    work, serve, use, _ = blocks("sh")
    prepare, worker = work.splitlines()
    port = free_port()
    subprocess.run(prepare.split(), cwd=tmp_path, check=True)
    with (
        started(f"{serve.strip()} --port {port}", tmp_path, environment) as server,
        started(worker, tmp_path, environment) as workers,
    ):
        server.port = port
        wait_until_ready(server, "/docs")
        token, order, look, keep = use.replace("127.0.0.1:8000", f"127.0.0.1:{port}").splitlines()

        def run(*lines: str) -> str:
            script = "\n".join(lines).replace("curl ", "curl -sf ")
            return subprocess.run(
                ["bash", "-euc", script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout

        run(order)
        both = '["generations/7/0.png","generations/7/1.png"]'
        until_equal(lambda: run(token, look), both)
        bearer = f"Bearer {run(token, 'echo $TOKEN').strip()}"
        # Uvicorn closes a connection that waits for five seconds, perhaps just as it is used again.
        fields = {"Authorization": bearer, "Connection": "close"}
        with httpx.Client(base_url=server.url, headers=fields) as client:
            # The worker publishes the run after the images can be seen. Before that, `keep` would
            # move the images of an incomplete run away.
            until_equal(lambda: len(client.get("/api/v1/storage/runs").json()), 1)
            answer = client.get(f"{IMAGES}/generations/7/0.png")
            on_disk = "R2_ENDPOINT_URL" not in environment
            assert answer.status_code == (200 if on_disk else 302)
            whole = answer if on_disk else httpx.get(answer.headers["location"])
            assert whole.content.startswith(b"\x89PNG")
            kept = run(keep)
            resources = client.get("/api/v1/media-resources").json()
            assert kept.count("-") == 8
            assert all(resource["id"] in kept for resource in resources)
            assert len(resources) == 2
            until_equal(lambda: run(token, look), "[]")  # the sweeper of the app
            assert client.get("/api/v1/gallery/").status_code == 200
        chosen = "storage: DiskImageStorage" if on_disk else "storage: R2ImageStorage"
        assert chosen in server.logged()
        assert "Traceback" not in server.logged() + workers.logged()
