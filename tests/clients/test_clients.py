"""Clients that others' generators make of the live OpenAPI document, used as their people would."""

import base64
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from running import Server, running
from stillroom.generation.writing.embed import with_generation

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("clients")) as started:
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture(scope="module")
def workspace(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the document, the scripts, and the packages of npm."""
    assert PACKAGES.is_dir(), "the generators are not here: make clients"
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "openapi.json").write_bytes(httpx.get(f"{server.url}/openapi.json").content)
    for file in (*HERE.glob("*.ts"), HERE / "tsconfig.json"):
        shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(PACKAGES)
    return folder


@pytest.fixture(scope="module")
def built(workspace: Path) -> Path:
    """Both clients of TypeScript and their scripts, checked by the compiler."""
    bin_ = workspace / "node_modules" / ".bin"
    done(workspace, bin_ / "openapi-typescript", "openapi.json", "-o", "schema.d.ts")
    done(workspace, bin_ / "openapi-ts", "-i", "openapi.json", "-o", "hey", "--no-log-file")
    done(workspace, bin_ / "tsc", "-p", ".")
    return workspace / "built"


def image(seed: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (seed, 40, 80)).save(file, "PNG")
    return with_generation(file.getvalue(), {"prompt": "a fox", "seed": 7})


def done(folder: Path, *command: str | Path, **environment: str) -> str:
    ran = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def environment(server: Server, name: str, seed: int) -> dict[str, str]:
    return {
        "STILLROOM_URL": server.url,
        "STILLROOM_TOKEN": server.token(),
        "FOLDER": name,
        "PNG": base64.b64encode(image(seed)).decode(),
    }


@pytest.mark.parametrize(("script", "seed"), [("fetching", 1), ("hey", 2)])
def test_a_client_in_typescript_does_all_operations(
    server: Server, built: Path, script: str, seed: int
) -> None:
    printed = done(built, "node", f"{script}.js", **environment(server, script, seed))

    assert printed.strip() == "all done"


def test_a_client_in_python_does_all_operations(server: Server, workspace: Path) -> None:
    generator = SCRIPTS / "openapi-python-client"
    assert generator.exists(), "the generator is not here: make clients"
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"  # it formats with ruff
    printed = done(
        workspace,
        generator,
        "generate",
        "--path",
        "openapi.json",
        "--output-path",
        "python",
        "--fail-on-warning",
        PATH=path,
    )
    assert "warning" not in printed.lower()

    generated = str(workspace / "python")
    script = str(HERE / "attrs_client.py")
    done(workspace, sys.executable, script, PYTHONPATH=generated, **environment(server, "attrs", 3))
