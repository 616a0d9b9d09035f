"""What the documentation says is run."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from acceptance.pasting import (
    DEFAULT_URL,
    ROOT,
    blocks,
    paste,
    run_snippets,
    started,
    wait_for_answer,
)
from running import IMAGES, Server, free_port, running, wait_until_ready
from services.ports import free_ports
from services.seaweedfs import bucket_variables
from stillroom.features.database.migrations import HEAD
from waiting import until


def test_the_readmes_first_lines_save_list_and_read_back_a_real_png(tmp_path: Path) -> None:
    first, second = blocks("README.md", "sh")
    commands = [line.partition("#")[0].strip() for line in first.splitlines()]
    assert commands == ["make serve", "make test"]

    port = free_port()
    environment = {
        **os.environ,
        "STILLROOM_PORT": str(port),
        "STILLROOM_DATA_DIR": str(tmp_path / "data"),
    }
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["make", "serve"],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    server = Server(process, tmp_path / "data", port, log, environment)
    try:
        wait_until_ready(server)
        printed = paste(second, server, tmp_path)
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # make and its server, as Ctrl-C does
        process.wait(60)

    assert '["generations/1/sample.png"]' in printed
    sample = (ROOT / "docs/sample.png").read_bytes()
    assert (tmp_path / "back.png").read_bytes() == sample
    assert (tmp_path / "data/compute/generations/1/sample.png").read_bytes() == sample


@pytest.mark.whole
def test_every_command_of_the_api_page_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    with running(tmp_path) as server:
        for commands in blocks("docs/api.md", "sh"):
            paste(f"{setup}\n{commands.replace('curl ', 'curl -f ')}", server, tmp_path)
        with server.client() as client:
            assert client.get(IMAGES).json() == ["once.png", "whole.png"]


@pytest.mark.whole
def test_the_curl_commands_of_the_page_about_uploads_run(tmp_path: Path) -> None:
    assert shutil.which("jq"), "jq is missing: apt-get install jq"
    with running(tmp_path) as server:
        printed = paste("\n".join(blocks("docs/uploads.md", "sh")), server, tmp_path)

    assert '"path":"cat.png"' in printed
    assert (tmp_path / "back.png").read_bytes() == (ROOT / "docs/sample.png").read_bytes()


@pytest.mark.whole
def test_every_command_of_the_media_page_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    commands = "\n".join(blocks("docs/media.md", "sh")).replace("curl ", "curl -f ")
    with running(tmp_path) as server:
        printed = paste(f"{setup}\n{commands}", server, tmp_path)

    assert '"color_profile":' in printed
    assert f"{HEAD}, up to date" in printed
    assert (tmp_path / "seven.png").read_bytes() == (ROOT / "docs/sample.png").read_bytes()


@pytest.mark.whole
def test_every_command_of_the_page_about_runs_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    commands = "\n".join(blocks("docs/runs.md", "sh"))
    with running(tmp_path) as server:
        printed = paste(f"{setup}\n{commands}", server, tmp_path)
        said = run_snippets(blocks("docs/runs.md", "python"), server, tmp_path)

    assert "generations/8 2 " in said
    assert "2 images go in an hour" in said
    assert '"state":"published"' in printed
    assert '{"folder":"generations/7","marked":4,"kept":0,"newer":0}' in printed
    assert '"expires_at":' in printed


@pytest.mark.parametrize("place", ["disk", pytest.param("bucket", marks=pytest.mark.whole)])
def test_the_readmes_embedding_works(
    tmp_path: Path, request: pytest.FixtureRequest, place: str
) -> None:
    snippet, _ = blocks("README.md", "python")
    (tmp_path / "compute_server.py").write_text(textwrap.dedent(snippet))
    variables = bucket_variables(request.getfixturevalue("seaweed")) if place == "bucket" else {}
    assert all(name in (ROOT / "README.md").read_text() for name in variables)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "compute_server:app", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, **variables},
            stdout=log,
            stderr=log,
        )
    server = Server(process, tmp_path / "stillroom-data", port, tmp_path / "log", dict(os.environ))
    server.follows = place == "bucket"
    try:
        wait_until_ready(server, "/openapi.json")
        with server.client() as client:
            assert client.post(f"{IMAGES}/a.png", files={"file": b"x"}).status_code == 200
            read = client.get(f"{IMAGES}/a.png")
            assert (read.content, len(read.history)) == (b"x", place == "bucket")
            assert client.delete(f"{IMAGES}/a.png").status_code == 200
        assert "public URLs begin with http://127.0.0.1:8000" in server.logged()
    finally:
        process.terminate()
        process.wait(60)


def test_the_readmes_worker_saves_in_three_lines(tmp_path: Path) -> None:
    _, snippet = blocks("README.md", "python")
    assert len([line for line in snippet.splitlines() if line]) == 3
    with running(tmp_path) as server, server.client() as client:
        run_snippets([snippet], server, tmp_path)
        sample = (ROOT / "docs/sample.png").read_bytes()
        assert client.get(f"{IMAGES}/generations/2/cat.png").content == sample


@pytest.mark.whole
def test_every_snippet_of_the_sdk_page_runs(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        printed = run_snippets(blocks("docs/sdk.md", "python"), server, tmp_path)
        assert "generations/none.png: no such image not_found" in printed
        assert client.get(IMAGES).json() == [
            "generations/1/cat.png",
            "generations/2/a.webp",
            "generations/2/b.png",
            "generations/2/c-1.png",
            "generations/2/c.png",
            "generations/3/cat.png",
        ]
    assert len(list((tmp_path / "run/run").iterdir())) == 100


@pytest.mark.whole
def test_every_snippet_and_command_of_the_generation_page_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    setup += f"\nexport STILLROOM_URL={DEFAULT_URL} STILLROOM_TOKEN=$TOKEN"
    commands = "\n".join(blocks("docs/generation.md", "sh"))
    with running(tmp_path) as server:
        printed = paste(f"{setup}\n{commands}", server, tmp_path)
        assert "prompt          a red fox\n" in printed
        printed = run_snippets(blocks("docs/generation.md", "python"), server, tmp_path)
    assert printed == "a red fox in the snow 965400086\n"


@pytest.mark.whole
def test_every_snippet_and_command_of_the_search_page_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    setup += f"\nexport STILLROOM_URL={DEFAULT_URL} STILLROOM_TOKEN=$TOKEN"
    commands = "\n".join(blocks("docs/search.md", "sh"))
    with running(tmp_path) as server:
        assert '{"items":[],"next":null}' in paste(f"{setup}\n{commands}", server, tmp_path)
        assert run_snippets(blocks("docs/search.md", "python"), server, tmp_path) == ""


@pytest.mark.whole
def test_every_command_of_the_page_on_the_mark_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    setup += f"\nexport STILLROOM_URL={DEFAULT_URL} STILLROOM_TOKEN=$TOKEN"
    commands = "\n".join(blocks("docs/ai-mark.md", "sh"))
    with running(tmp_path) as server:
        printed = paste(f"{setup}\n{commands}", server, tmp_path)
    assert "uploaded generations/1/fox.png" in printed
    assert '"unmarked": []' in printed


@pytest.mark.whole
def test_every_command_of_the_cli_page_runs(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        printed = paste("\n".join(blocks("docs/cli.md", "sh")), server, tmp_path)
        assert client.get(IMAGES).json() == ["generations/7/sample.png"]  # for an hour
    sample = (ROOT / "docs/sample.png").read_bytes()
    for name in ("cat.png", "copy.png", "back/1/cat.png", "back/2/sample.png"):
        assert (tmp_path / name).read_bytes() == sample
    assert "would upload notes/docs/sdk.md" in printed or "would upload notes/sdk.md" in printed
    assert "ok    saving" in printed
    table = re.findall(r"^\| (\d) \|", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    code = (ROOT / "src/stillroom/cli/exits.py").read_text()
    assert {"0", *re.findall(r": (?:Final = )?(\d)\b", code)} == set(table)


@pytest.mark.whole
def test_every_command_of_the_migration_page_runs(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": b"x"}).raise_for_status()
        printed = paste("\n".join(blocks("docs/migration.md", "sh")), server, tmp_path)
    assert "would copy  compute/a.png" in printed
    assert (tmp_path / "new-data/compute/a.png").read_bytes() == b"x"


@pytest.mark.whole
@pytest.mark.slow
def test_the_page_about_trying_a_bucket_starts_one_and_saves_into_it(tmp_path: Path) -> None:
    seaweed, serve, use = blocks("docs/try-a-bucket.md", "sh")
    s3, master, volume, filer, admin, port = free_ports(6)
    seaweed = (
        f"{seaweed.rstrip()} -s3.port={s3} -s3.port.iceberg=0 -s3.port.lance=0 "
        f"-master.port={master} -volume.port={volume} -filer.port={filer} -admin.port={admin}"
    )
    bucket = f"http://127.0.0.1:{s3}"
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    log = tmp_path / "log"

    with started(seaweed, tmp_path, tmp_path / "weed.log"):
        wait_for_answer(f"{bucket}/images", tmp_path / "weed.log")
        until(lambda: "S3 Endpoint" in (tmp_path / "weed.log").read_text())  # ready, the page says
        on_it = serve.replace("http://127.0.0.1:8333", bucket)
        with started(on_it, tmp_path, log, STILLROOM_PORT=str(port)):
            wait_for_answer(f"http://127.0.0.1:{port}/healthz", log)
            ran = subprocess.run(
                ["bash", "-ec", use.replace(DEFAULT_URL, f"http://127.0.0.1:{port}")],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=500,
                check=False,
            )

    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "back.png").read_bytes() == (ROOT / "docs/sample.png").read_bytes()
    assert not (tmp_path / "bucket-data/compute").exists(), "it is in the bucket"
    assert (tmp_path / "bucket-data/.stillroom/library.db").exists()
    assert not (tmp_path / "stillroom-data").exists()
    assert "ok    saving" in log.read_text()
    assert "WRONG" not in log.read_text()
