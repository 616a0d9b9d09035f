"""The wheel alone, in a fresh environment: the SDK and its commands, and nothing of the server."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from building import ROOT, bare_environment, build, install, requirements_of
from running import Server

pytestmark = [
    pytest.mark.whole,  # environments are installed
    pytest.mark.xdist_group("wheel"),
]

SAVING = """
import sys
from pathlib import Path
from stillroom.client import ImageStore

store = ImageStore()
store.save("wheel/a.png", Path(sys.argv[1]))
assert store.read("wheel/a.png") == Path(sys.argv[1]).read_bytes()
loaded = {name.partition(".")[0] for name in sys.modules}
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("stillroom.")}
print(*sorted(loaded), "/", *sorted(rooms))
"""

TYPED = """
from pathlib import Path
import stillroom.client
from stillroom.client import AsyncImageStore, ImageStore, SavedImage

async def main() -> None:
    async with AsyncImageStore() as store:
        reveal_type(await store.save("a", b""))
        reveal_type(store.iter())

reveal_type(ImageStore().save("a", Path("a")))
reveal_type(ImageStore().stat("a").size)
ImageStore().save("a", 7)
ImageStore().save("a", "a.png")
ImageStore().save(b"a", b"")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel and its locked requirements."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build("wheel", folder)
    names = zipfile.ZipFile(wheel).namelist()
    assert "stillroom/py.typed" in names
    static = ROOT / "src/stillroom/features/gallery/static"
    pages = {f"stillroom/features/gallery/static/{file.name}" for file in static.iterdir()}
    assert len(pages) > 10
    assert pages <= set(names)
    return install(wheel, "client.txt", folder / "venv")


def environment_of(server: Server) -> dict[str, str]:
    return bare_environment(STILLROOM_URL=server.url, STILLROOM_TOKEN=server.token())


def test_the_sdk_alone_brings_no_library_of_the_server(installed: Path) -> None:
    listed = subprocess.run(
        [installed / "python", "-m", "pip", "list", "--format=json"],
        check=True,
        capture_output=True,
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}

    server = {one.name.lower() for one in requirements_of("server")}
    assert {"fastapi", "sqlalchemy", "pillow", "psycopg"} <= server
    assert names & server == set()
    assert names - {"setuptools"} == {  # which a new environment of Python 3.11 has
        "anyio", "certifi", "click", "h11", "httpcore", "httpx", "idna", "pip", "stillroom",
        "typing_extensions",
    }  # fmt: skip


def test_the_sdk_alone_works_against_a_running_server(
    installed: Path, server: Server, tmp_path: Path
) -> None:
    run = subprocess.run(
        [installed / "python", "-c", SAVING, ROOT / "docs/sample.png"],
        env=environment_of(server),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    loaded, _, rooms = run.stdout.partition("/")
    assert not {"fastapi", "pydantic", "starlette", "uvicorn", "jwt"} & set(loaded.split())
    assert set(rooms.split()) == {
        "client",
        "durations",
        "errors",
        "formats",
        "generation",
        "paths",
        "wire",
    }


def test_the_commands_work_alone_and_serve_says_what_is_missing(
    installed: Path, server: Server, tmp_path: Path
) -> None:
    def stillroom(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "stillroom", *words],
            env=environment_of(server),
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )

    assert stillroom("put", str(ROOT / "docs/sample.png"), "wheel/b.png").returncode == 0
    assert stillroom("ls", "wheel/b.png").stdout == "wheel/b.png\n"
    for words in (["serve"], ["token"]):
        refused = stillroom(*words)
        assert refused.returncode == 2
        assert "is not installed: install Stillroom with its server" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_type_checker_knows_the_sdk(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(TYPED)
    checked = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--no-incremental",
            "--python-executable", str(installed / "python"), "worker.py",
        ],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )  # fmt: skip
    notes = re.findall(r'Revealed type is "(.+?)"', checked.stdout)
    assert notes == [
        "stillroom.wire.images.SavedImage",
        "typing.AsyncIterator[str]",
        "stillroom.wire.images.SavedImage",
        "int",
    ], checked.stdout
    errors = [line for line in checked.stdout.splitlines() if "error:" in line]
    assert len(errors) == 3
    assert all("incompatible type" in error for error in errors), checked.stdout
