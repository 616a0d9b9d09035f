"""What `make release-check` has built into dist/: what is in it, and that it works elsewhere."""

import email
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

import stillroom
from building import (
    PROJECT,
    ROOT,
    bare_environment,
    build,
    install,
    newest_python,
    requirements_of,
)
from running import Server, free_port, running, wait_until_ready

pytestmark = [pytest.mark.release, pytest.mark.xdist_group("release")]

DIST = ROOT / "dist"
SAMPLE = ROOT / "docs/sample.png"
VERSION = stillroom.__version__
SBOMS = ("stillroom-client.cdx.json", "stillroom-server.cdx.json")


def built(pattern: str) -> Path:
    found = list(DIST.glob(pattern))
    assert len(found) == 1, f"{found} in dist/: run `make release-check`"
    return found[0]


@pytest.fixture(scope="module")
def wheel() -> Path:
    return built("*.whl")


@pytest.fixture(scope="module")
def sdist() -> Path:
    return built("*.tar.gz")


def package_files(root: Path) -> set[str]:
    """All files of the package, but for what an interpreter leaves there."""
    return {
        str(file.relative_to(root))
        for file in (root / "stillroom").rglob("*")
        if file.is_file() and file.parent.name != "__pycache__"
    }


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# What is in it


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    about = f"stillroom-{VERSION}.dist-info"

    expected = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    expected |= {f"sboms/{name}" for name in SBOMS}
    assert names == package_files(ROOT / "src") | {f"{about}/{name}" for name in expected}
    assert "stillroom/py.typed" in names


def test_the_sdist_holds_what_it_is_built_from_and_no_test(sdist: Path) -> None:
    with tarfile.open(sdist) as opened:
        names = {member.name for member in opened if member.isfile()}
        assert all(member.isfile() and member.uid == 0 for member in opened)

    top = f"stillroom-{VERSION}"
    others = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}
    package = {f"{top}/src/{name}" for name in package_files(ROOT / "src")}
    others |= {f"requirements/sbom/{name}" for name in SBOMS}
    assert names == package | {f"{top}/{name}" for name in others}


@pytest.mark.parametrize("name", SBOMS)
def test_the_sboms_in_the_wheel_fit_the_schema_of_cyclonedx(wheel: Path, name: str) -> None:
    inside = f"stillroom-{VERSION}.dist-info/sboms/{name}"
    text = zipfile.ZipFile(wheel).read(inside).decode()

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert text == (ROOT / "requirements/sbom" / name).read_text()
    assert json.loads(text)["metadata"]["component"]["version"] == VERSION


def test_it_says_what_it_is(wheel: Path) -> None:
    about = f"stillroom-{VERSION}.dist-info/METADATA"
    said = email.message_from_bytes(zipfile.ZipFile(wheel).read(about))

    assert said["Version"] == VERSION
    assert said["Author"] == "The Stillroom developers"
    assert "Programming Language :: Python :: 3.13" in said.get_all("Classifier", [])
    assert said["License-Expression"] == "MIT"
    assert said["Requires-Python"] == PROJECT["requires-python"]
    assert sorted(said.get_all("Provides-Extra") or []) == sorted(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_each_extra_installs_what_it_promises(wheel: Path, extra: str) -> None:
    about = f"stillroom-{VERSION}.dist-info/METADATA"
    said = email.message_from_bytes(zipfile.ZipFile(wheel).read(about))

    installed = set()
    for one in map(Requirement, said.get_all("Requires-Dist") or []):
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            one.marker = None
            installed.add(str(one))

    promised = {str(Requirement(line)) for line in PROJECT["dependencies"]}
    promised |= {str(one) for one in requirements_of(extra)} if extra else set()
    assert installed == promised


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    released = [found[1] for line in headings if (found := re.match(r"\[?(\d[\w.]*)", line))]

    assert headings[0].strip("[]") == "Unreleased" or released[0] == VERSION
    wanted = os.environ.get("VERSION")  # make release-check VERSION=1.0.0, right before the tag
    if wanted:
        assert wanted == VERSION
        assert released[:1] == [VERSION], "name the version, and its day, in CHANGELOG.md"
        assert re.search(
            rf"^## \[?{re.escape(VERSION)}\]? .*\d{{4}}-\d\d-\d\d$", text, re.MULTILINE
        )


def test_twine_finds_nothing(wheel: Path, sdist: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_same_commit_gives_the_same_bytes(
    wheel: Path, sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    (copied / "requirements/sbom").mkdir(parents=True)
    sboms = [f"requirements/sbom/{name}" for name in SBOMS]
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore", *sboms):
        shutil.copyfile(ROOT / name, copied / name)  # with times and rights of their own
    shutil.copytree(ROOT / "src", copied / "src", copy_function=shutil.copyfile)
    monkeypatch.setenv("TZ", "Asia/Tokyo")

    assert digest(build("sdist", tmp_path / "sdist", source=copied)) == digest(sdist)
    assert digest(build("wheel", tmp_path / "wheel", source=copied)) == digest(wheel)
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    unpacked = tmp_path / "unpacked" / f"stillroom-{VERSION}"
    assert digest(build("wheel", tmp_path / "from-sdist", source=unpacked)) == digest(wheel)


# In an environment that holds nothing else


@pytest.fixture(scope="module")
def server_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, "server.txt", tmp_path_factory.mktemp("server") / "venv")


@pytest.fixture
def server(server_bin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with running(tmp_path, "--workers", "2", program=str(server_bin / "stillroom")) as started:
        yield started
        assert started.stop() == 0
    assert "Traceback" not in started.logged()


def test_what_is_installed_serves_saves_reads_and_verifies(
    server: Server, server_bin: Path, tmp_path: Path
) -> None:
    environment = bare_environment(
        STILLROOM_DATA_DIR=str(server.data),
        STILLROOM_MIN_FREE_BYTES="0",
        STILLROOM_URL=server.url,
    )

    def run(*words: str) -> str:
        ran = subprocess.run(
            [str(server_bin / "stillroom"), *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert run("--version") == f"stillroom, version {VERSION}\n"
    environment["STILLROOM_TOKEN"] = run("token").strip()
    run("put", str(SAMPLE), "a/sample.png")
    run("get", "a/sample.png", "back.png")
    assert (tmp_path / "back.png").read_bytes() == SAMPLE.read_bytes()
    assert "compute/a/sample.png" in run("media", "ingest", "--keep", "compute/a/sample.png")
    assert "1 image" in run("verify")
    assert "WRONG" not in run("doctor")
    for page in ("/docs", "/openapi.json", "/metrics", "/readyz"):
        assert httpx.get(f"{server.url}{page}").status_code == 200
    for file in re.findall(r'"(/static[^"]+)"', httpx.get(f"{server.url}/docs").text):
        assert httpx.get(f"{server.url}{file}").status_code == 200  # package data came along
    located = [
        str(server_bin / "python"),
        "-c",
        "import stillroom, sys; print(stillroom.__file__.startswith(sys.prefix))",
    ]
    found = subprocess.run(located, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert found.stdout == b"True\n"


def test_a_new_user_saves_an_image_by_the_page_alone(wheel: Path, tmp_path: Path) -> None:
    """On Python 3.13 where it is: `docs/installing.md` pasted, with the newest dependencies."""
    page = (ROOT / "docs/installing.md").read_text()
    first, second = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    *installing, serving = first.strip().splitlines()
    assert serving.endswith("stillroom serve")
    (tmp_path / "dist").mkdir()
    shutil.copy(wheel, tmp_path / "dist")
    shutil.copy(SAMPLE, tmp_path / "cat.png")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(newest_python())
    port = free_port()
    environment = bare_environment(
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        STILLROOM_PORT=str(port),
        STILLROOM_URL=f"http://127.0.0.1:{port}",
    )

    def paste(lines: str) -> None:
        script = f"set -eu\n{lines}"
        ran = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert ran.returncode == 0, ran.stderr

    paste("\n".join(installing))
    log = tmp_path / "log"
    with log.open("wb") as stream:
        command = ["bash", "-c", f"exec {serving}"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=stream, stderr=stream
        )
    server = Server(process, tmp_path / "stillroom-data", port, log, environment)
    try:
        wait_until_ready(server)
        paste(second)
    finally:
        assert server.stop() == 0
    assert (tmp_path / "back.png").read_bytes() == SAMPLE.read_bytes()
    assert (tmp_path / "stillroom-data/compute/cats/cat.png").read_bytes() == SAMPLE.read_bytes()
