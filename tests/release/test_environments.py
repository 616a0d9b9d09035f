"""The wheel in empty environments of the oldest and the newest Python, with each extra alone."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from packaging.utils import canonicalize_name

from building import ROOT, bare_environment
from running import STILLROOM, Server, running

pytestmark = [pytest.mark.release]

SAMPLE = ROOT / "docs/sample.png"
PYTHONS = ("3.11", "3.13")
EXTRAS = ("", "postgres", "store", "server")
SBOMS = {"": "client", "server": "server"}
"""The extras that an SBOM describes exactly; the others bring a part of the server's."""

SERVERS = ("store", "server")
"""Extras with which `stillroom serve` works."""

BROUGHT = {
    "": {"httpx"},
    "postgres": {"httpx", "psycopg"},
    "store": {"fastapi", "uvicorn"},
    "server": {"fastapi", "PIL", "psycopg", "sqlalchemy"},
}
LEFT_OUT = {
    "": {"fastapi", "sqlalchemy", "PIL", "psycopg"},
    "postgres": {"fastapi", "sqlalchemy", "PIL"},
    "store": {"sqlalchemy", "PIL", "psycopg"},
    "server": set[str](),
}


def python_of(version: str) -> str:
    """The interpreter of this version; a virtual environment may hide it from `PATH`."""
    folders = os.environ["PATH"].split(os.pathsep)
    pyenv = Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")
    found = shutil.which(f"python{version}") or next(map(str, pyenv), None)
    assert found, f"python{version} is missing in {folders}"
    return found


def pinned(folder: Path) -> Path:
    """The versions of the server's lock, as constraints: an extra alone has no lock of its own."""
    lock = (ROOT / "requirements/server.txt").read_text()
    file = folder / "constraints.txt"
    file.write_text("\n".join(re.findall(r"^([a-z0-9._-]+==[^\s\\]+)", lock, re.MULTILINE)))
    return file


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(f"{version}-{extra}", marks=pytest.mark.xdist_group(f"{version}-{extra}"))
        for version in PYTHONS
        for extra in EXTRAS
    ],
)
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The extra, and the `bin` of an environment with the wheel of dist/ and this extra."""
    version, _, extra = request.param.partition("-")
    (wheel,) = (ROOT / "dist").glob("*.whl")
    folder = tmp_path_factory.mktemp("extra")
    subprocess.run([python_of(version), "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    what = f"{wheel}[{extra}]" if extra else str(wheel)
    subprocess.run(
        [*pip, "install", "--no-compile", "-c", str(pinned(folder)), what], check=True, timeout=600
    )
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    return extra, folder / "venv/bin"


@pytest.fixture
def server(
    installed: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Started by what is installed; an environment without a server uses this checkout's."""
    extra, folder = installed
    monkeypatch.delenv("PYTHONPATH", raising=False)
    program = str(folder / "stillroom") if extra in SERVERS else STILLROOM
    with running(tmp_path, program=program) as started:
        yield started
        assert started.stop() == 0
    assert "Traceback" not in started.logged()


def test_an_extra_alone_saves_and_reads(
    installed: tuple[str, Path], server: Server, tmp_path: Path
) -> None:
    extra, folder = installed
    environment = bare_environment(STILLROOM_URL=server.url, STILLROOM_TOKEN=server.token())

    def stillroom(*words: str) -> None:
        command = [str(folder / "stillroom"), *words]
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr

    stillroom("put", str(SAMPLE), "a/sample.png")
    stillroom("get", "a/sample.png", "back.png")
    assert (tmp_path / "back.png").read_bytes() == SAMPLE.read_bytes()
    stillroom("rm", "a/sample.png")
    with server.client() as client:
        searched = client.get("/api/v1/storage/search", params={"q": "fox"})
        assert searched.status_code == (501 if extra == "store" else httpx.codes.OK)


def test_an_extra_brings_its_libraries_and_no_others(
    installed: tuple[str, Path], tmp_path: Path
) -> None:
    extra, folder = installed

    def can_import(name: str) -> bool:
        command = [str(folder / "python"), "-c", f"import {name}"]
        environment = bare_environment()
        return not subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, check=False
        ).returncode

    assert {name for name in BROUGHT[extra] if not can_import(name)} == set()
    assert {name for name in LEFT_OUT[extra] if can_import(name)} == set()


def test_the_sbom_describes_what_an_installation_brings(installed: tuple[str, Path]) -> None:
    extra, folder = installed
    command = [str(folder / "python"), "-m", "pip", "list", "--format=json"]
    listed = subprocess.run(command, env=bare_environment(), check=True, capture_output=True)
    names = {(canonicalize_name(one["name"]), one["version"]) for one in json.loads(listed.stdout)}
    brought = {(name, version) for name, version in names if name not in {"pip", "setuptools"}}

    sbom = f"lib/*/*/*.dist-info/sboms/stillroom-{SBOMS.get(extra, 'server')}.cdx.json"
    (file,) = folder.parent.glob(sbom)
    document = json.loads(file.read_text())
    components = [document["metadata"]["component"], *document["components"]]
    described = {
        (one["name"], one["version"]) for one in components if one.get("scope") != "optional"
    }
    assert brought <= described
    assert extra not in SBOMS or brought == described
