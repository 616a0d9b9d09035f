"""What a page of the documentation says, run as its reader would."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from pictures import picture
from running import Server
from services.process import spawn
from videos import recorded
from waiting import until

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
    environment = {
        **server.environment,
        "PATH": os.environ["PATH"],
        "STILLROOM_CONFIG": str(folder / "stillroom.conf"),
    }
    return _output_of(["bash", "-c", script], folder, environment)


def run_snippets(snippets: list[str], server: Server, folder: Path) -> str:
    """Run Python as a reader would who has a token, an image and a file of it."""
    (folder / "cat.png").write_bytes((ROOT / "docs/sample.png").read_bytes())
    given = "import sys\ntoken = sys.argv[1]\nimage = open('cat.png', 'rb').read()\n"
    script = given + "\n".join(snippets).replace(DEFAULT_URL, server.url)
    if "async def main" in script:
        script += "\nimport asyncio\nasyncio.run(main())\n"
    (folder / "worker.py").write_text(script)
    command = [sys.executable, "-W", "error::DeprecationWarning", "worker.py", server.token()]
    return _output_of(command, folder)


def _output_of(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextlib.contextmanager
def started(commands: str, folder: Path, log: Path, **environment: str) -> Iterator[None]:
    process = spawn(
        ["bash", "-c", commands], log, environment={**os.environ, **environment}, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def wait_for_answer(url: str, log: Path) -> None:
    def is_there() -> bool:
        httpx.get(url)
        return True

    until(is_there, despite=httpx.TransportError, said=log.read_text)
