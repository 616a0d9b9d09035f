"""A package from which the folder of a feature was deleted, with its line in the assembly."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import stillroom
from core.apart import HAS_DATABASE, done, make_store
from running import IMAGES, free_port
from services.process import answers
from waiting import until

pytestmark = pytest.mark.slow

SOURCE = Path(stillroom.__file__).parent
FEATURES = sorted(path.parent.name for path in (SOURCE / "features").glob("*/feature.py"))
_ACROSS = re.MULTILINE | re.DOTALL
PNG = b"\x89PNG\r\n\x1a\n"


LIBRARY = {"database", "metadata", "search", "library"}
NEEDS = {
    "verify": set[str](),
    "doctor": set[str](),
    "media migrate": {"database"},
    "index rebuild": {"database", "metadata", "search"},
    "media sweep": LIBRARY,
    "media orphans": LIBRARY,
    "media dead-letters ls": LIBRARY,
    "retention plan": LIBRARY | {"runs", "retention"},
    "migrate --from stillroom-data --to other": LIBRARY - {"metadata"} | {"runs"},
}
"""Commands for operators, and the features that each of them needs."""


def package_without(name: str, folder: Path) -> None:
    package = folder / "stillroom"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(package / "features" / name)
    assembly = package / "assembly.py"
    line = re.compile(rf'^    FeatureLine\(\s*"{name}".*?\),\n(?=    FeatureLine|\))', _ACROSS)
    text, count = line.subn("", assembly.read_text())
    assert count == 1
    assembly.write_text(text)


@pytest.mark.parametrize("name", FEATURES)
async def test_a_command_of_a_feature_without_its_folder_names_the_feature(
    name: str, tmp_path: Path
) -> None:
    package_without(name, tmp_path)
    await make_store(tmp_path)

    found = done(tmp_path, list(NEEDS), PYTHONPATH=str(tmp_path))

    for words, needs in NEEDS.items():
        command = found[words]
        if name in needs:
            (line,) = command.err.splitlines()
            assert (command.code, line.startswith("stillroom: ")) == (2, True), command
            assert f"{name!r}" in line or not HAS_DATABASE, line
            assert "not part of this installation" in line or not HAS_DATABASE, line
        elif HAS_DATABASE or "database" not in needs:
            assert command.code == 0, (words, command)


@pytest.mark.parametrize("name", FEATURES)
def test_a_server_without_the_folder_of_a_feature_keeps_its_promises(
    name: str, tmp_path: Path
) -> None:
    package_without(name, tmp_path)
    port, data = free_port(), tmp_path / "data"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "from stillroom.cli.main import main; main()"]
    server = subprocess.Popen(
        [*command, "serve", "--port", str(port), "--data-dir", str(data)], env=environment
    )
    try:
        until(answers(f"http://127.0.0.1:{port}/readyz"), despite=httpx.TransportError, by=server)
        minted = subprocess.run(
            [*command, "token", "--data-dir", str(data)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {minted.stdout.strip()}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            path = f"{IMAGES}/a.png"
            assert client.post(path, files={"file": PNG}).status_code == 200
            assert client.get(IMAGES).json() == ["a.png"]
            assert client.get(path).content == PNG
            assert client.head(path).status_code == 200
            if name == "lineage":
                metadata = client.get(path.replace("/images/", "/metadata/")).json()
                assert (metadata["derived_from"], metadata["derivatives"]) == (None, None)
            assert client.delete(path).status_code == 200
    finally:
        server.terminate()
        assert server.wait(60) == 0
