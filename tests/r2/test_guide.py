"""The list in docs/r2.md: what it says that checks each line does."""

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from running import STILLROOM, running
from services.nginx import nginx_cdn
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.whole,  # commands of a page, started as users do
    pytest.mark.usefixtures("variables"),
]

ROOT = Path(__file__).parents[2]
LIST = re.search(
    r"## From nothing to a bucket with a domain\n(.*?)\n## ",
    (ROOT / "docs/r2.md").read_text(),
    re.DOTALL,
)


@pytest.fixture
def variables(seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server's, but for the CDN."""
    for name, value in {
        "R2_ENDPOINT_URL": seaweed.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
        "STILLROOM_JWT_SECRET": "s" * 32,
    }.items():
        monkeypatch.setenv(name, value)
    yield
    seaweed.empty()


def shell(script: str, folder: Path, **more: str) -> str:
    environment = {**os.environ, **more}
    environment["PATH"] = f"{Path(STILLROOM).parent}:{environment['PATH']}"
    ran = subprocess.run(
        ["bash", "-eu", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_doctor_says_what_the_list_looks_for(
    seaweed: SeaweedFS,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert LIST
    looked_for = set(re.findall(r"`(ok    \w+)`", LIST[1]))
    assert len(looked_for) >= 8
    monkeypatch.setenv("STILLROOM_DATABASE_URL", database_url)
    with nginx_cdn(tmp_path, seaweed.endpoint_url) as cdn:
        monkeypatch.setenv("R2_PUBLIC_URL", cdn)
        with running(tmp_path) as server:
            assert httpx.get(f"{server.url}/readyz").status_code == 200
            said = shell("stillroom doctor", tmp_path, **server.environment)

    for line in looked_for:
        assert line in said
    for words in ("serves what was saved", "x-content-type-options: nosniff"):
        assert re.search(rf"^ok    CDN .*{words}", said, re.MULTILINE), said
        assert words in LIST[1]
    assert "note  settings" not in said
    assert "WRONG" not in said


@pytest.mark.parametrize(("keeps_404", "said"), [(True, "404 404"), (False, "404 200")])
def test_the_check_of_the_cache_rules_sees_a_404_that_is_kept(
    seaweed: SeaweedFS, tmp_path: Path, keeps_404: bool, said: str
) -> None:
    assert LIST
    script = re.search(r"^  ```sh\n(.*?)^  ```", LIST[1], re.DOTALL | re.MULTILINE)
    assert script
    with (
        nginx_cdn(tmp_path, seaweed.endpoint_url, keeps_404=keeps_404) as cdn,
        running(tmp_path) as server,
    ):
        printed = shell(
            textwrap.dedent(script[1]),
            ROOT,
            STILLROOM_URL=server.url,
            STILLROOM_TOKEN=server.token(),
            R2_PUBLIC_URL=cdn,
        )
    assert printed.splitlines()[-1] == said


def test_nobody_lists_the_bucket_without_a_key(tmp_path: Path) -> None:
    assert LIST
    check = re.search(r"`(curl [^`]*R2_ENDPOINT_URL[^`]*)`", LIST[1])
    assert check
    # Everybody may read this bucket here, as a CDN does; another one is closed.
    status = shell(check[1].replace("$R2_BUCKET_NAME", "closed"), tmp_path)
    assert status.startswith("4")
