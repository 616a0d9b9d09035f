"""What a page of the documentation says, run as its reader would."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx

from pictures import picture
from running import Server
from videos import recorded

ROOT = Path(__file__).parents[2]
DEFAULT_URL = "http://127.0.0.1:8000"
PLAIN = "generations/0/plain.png"
ODD = {
    PLAIN: picture(),
    "generations/0/clip.mp4": recorded("mp4"),
    "generations/0/cut off.jpg": b"\xff\xd8\xff\xe0",
    "generations/0/Füchse #1 & 2?.txt": b"notes",
}
"""What recipes meet beside images with a prompt: one without metadata, a video, and odd files."""


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def paste(commands: str, server: Server, folder: Path) -> str:
    """Run commands as a reader would, but against this server and outside of the checkout."""
    script = "set -eu\nset -o pipefail\n" + commands.replace(DEFAULT_URL, server.url)
    for name in ("docs", ".venv"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name if name == "docs" else Path(sys.prefix))
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={
            **server.environment,
            "PATH": os.environ["PATH"],
            "STILLROOM_CONFIG": str(folder / "stillroom.conf"),
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def run_snippets(snippets: list[str], server: Server, folder: Path) -> str:
    """Run Python as a reader would who has a token, an image and a file of it."""
    (folder / "cat.png").write_bytes((ROOT / "docs/sample.png").read_bytes())
    given = "import sys\ntoken = sys.argv[1]\nimage = open('cat.png', 'rb').read()\n"
    script = given + "\n".join(snippets).replace(DEFAULT_URL, server.url)
    if "async def main" in script:
        script += "\nimport asyncio\nasyncio.run(main())\n"
    (folder / "worker.py").write_text(script)
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "worker.py", server.token()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextlib.contextmanager
def started(commands: str, folder: Path, log: Path, **environment: str) -> Iterator[None]:
    """Commands that go on until they are stopped, as in a terminal of their own."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", "-c", commands],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def wait_for_answer(url: str, log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url, timeout=5)
            return
        threading.Event().wait(0.1)  # until it listens
    raise AssertionError(log.read_text()[-2000:])
