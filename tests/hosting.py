"""`host_app` under servers of several makes, with the store on each backend and database."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from running import Server, free_port, wait_until_ready
from services.process import spawn
from surroundings import inherited

HERE: Final = Path(__file__).parent

_BINARIES: Final = Path(sys.executable).parent

COMMANDS: Final = {
    "uvicorn": "uvicorn host_app:app --host 127.0.0.1 --port {port} --workers {workers}",
    "hypercorn": "hypercorn host_app:app --bind 127.0.0.1:{port} --workers {workers}",
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port} --workers {workers} "
    "host_app:app",
}


@dataclass(frozen=True)
class Host:
    server: str
    workers: int = 1
    mount: str = ""
    bucket: bool = False
    postgresql: bool = False

    @property
    def name(self) -> str:
        place, bytes_in = "mounted" if self.mount else "root", "bucket" if self.bucket else "disk"
        rows_in = "postgresql" if self.postgresql else "sqlite"
        return f"{self.server}-{self.workers}-{place}-{bytes_in}-{rows_in}"


HOSTS: Final = (
    Host("uvicorn"),
    Host("uvicorn", 2, "/compute", bucket=True, postgresql=True),
    Host("hypercorn", 1, "/compute", postgresql=True),
    Host("hypercorn", 2, bucket=True),
    Host("granian", 1, bucket=True, postgresql=True),
    Host("granian", 2, "/compute"),
)
"""Each server with one and two workers, mounted and not, on each backend and database."""


@contextlib.contextmanager
def hosted(
    folder: Path, host: Host, variables: Mapping[str, str] | None = None, **settings: str
) -> Iterator[Server]:
    port = free_port()
    url = f"http://127.0.0.1:{port}{host.mount}"
    environment = {
        **inherited(),
        "PYTHONPATH": str(HERE),
        "HOST_MOUNT": host.mount,
        "STILLROOM_DATA_DIR": str(folder / "data"),
        "STILLROOM_MIN_FREE_BYTES": "0",
        "STILLROOM_PUBLIC_BASE_URL": url,
        **(variables or {}),
        **{f"STILLROOM_{name.upper()}": value for name, value in settings.items()},
    }
    command = COMMANDS[host.server].format(port=port, workers=host.workers).split()
    log = folder / "host.log"
    process = spawn(
        [_BINARIES / command[0], *command[1:]], log, environment=environment,
        start_new_session=True,  # so that all its processes can be killed at once
    )  # fmt: skip
    server = Server(
        process, folder / "data", port, log, environment, root=host.mount, follows=host.bucket,
        # After a refusal it closes a connection unannounced if the body was still to come.
        keeps=host.server != "hypercorn",
    )  # fmt: skip
    try:
        wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                if host.server != "hypercorn":  # it was seen to go on for ever after SIGTERM
                    raise
                server.kill()
