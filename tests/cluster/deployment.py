"""Three Stillrooms behind nginx, on a SeaweedFS cluster and PostgreSQL, from the files of deploy/.

Nothing of `deploy/cluster` is changed but addresses, secrets, and how long a grace period lasts.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from running import STILLROOM
from services.ports import free_ports
from services.postgres import PostgreSQL
from services.process import Process
from services.proxies import DEPLOY, nginx_cluster
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET
from services.stub_wire import variables_of
from services.weed_cluster import WeedCluster, weed_cluster
from stillroom.store.choose import R2Config
from surroundings import inherited

SERVERS = 3
GRACE_S = 2
SWEEP_EVERY_S = 1


@dataclass
class Deployment:
    """All of it, running: the URL of the proxy, the Stillrooms, and what they have in common."""

    url: str
    servers: list[Process]
    environment: dict[str, str]
    bucket: WeedCluster
    operator: Operator
    postgres: PostgreSQL
    database_url: str

    def token(self) -> str:
        command = [STILLROOM, "token"]
        environment = {**os.environ, **self.environment}
        ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return ran.stdout.strip()

    def logged(self) -> str:
        return "".join(server.log.read_text() for server in self.servers)

    def wait_until_ready(self, server: Process) -> None:
        assert server.environment is not None
        server.wait_until_well(f"http://127.0.0.1:{server.environment['STILLROOM_PORT']}/readyz")


def shared_environment(changes: dict[str, str]) -> dict[str, str]:
    """`deploy/cluster/stillroom.env` with some of its values replaced, none added."""
    lines = (DEPLOY / "cluster/stillroom.env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert changes.keys() <= found.keys()
    return found | changes


@contextlib.contextmanager
def deployment(folder: Path, postgres: PostgreSQL) -> Iterator[Deployment]:
    database_url = postgres.make_database()
    front, *ports = free_ports(1 + SERVERS)
    url = f"http://127.0.0.1:{front}"
    with contextlib.ExitStack() as stack:
        stack.callback(postgres.drop_database, database_url)
        (folder / "bucket").mkdir()
        bucket = stack.enter_context(weed_cluster(folder / "bucket"))
        operator = Operator(bucket.endpoint_url)
        operator.make_bucket()
        shared = shared_environment(
            {
                **variables_of(R2Config(bucket.endpoint_url, KEY_ID, SECRET, BUCKET)),
                "R2_PUBLIC_URL": f"{bucket.endpoint_url}/{BUCKET}",
                "STILLROOM_DATABASE_URL": database_url,
                "STILLROOM_JWT_SECRET": os.urandom(32).hex(),
                "STILLROOM_PUBLIC_BASE_URL": url,
                "STILLROOM_DELETION_GRACE_SECONDS": str(GRACE_S),
                "STILLROOM_LOG_FORMAT": "console",
            }
        )
        servers = [_server(folder, f"stillroom-{port}", port, shared) for port in ports]
        running = Deployment(url, servers, shared, bucket, operator, postgres, database_url)
        for server in servers:
            stack.callback(_end, server)
            server.start()
        for server in servers:
            running.wait_until_ready(server)
        most = int(shared["STILLROOM_MAX_UPLOAD_BYTES"])
        stack.enter_context(nginx_cluster(folder, front, *ports, max_upload_bytes=most))
        yield running


def _server(folder: Path, name: str, port: int, shared: dict[str, str]) -> Process:
    """One as on a machine of its own: nothing but the port and an empty data directory differs."""
    own = {
        "STILLROOM_PORT": str(port),
        "STILLROOM_DATA_DIR": str(folder / name),
        "STILLROOM_SWEEP_INTERVAL_SECONDS": str(SWEEP_EVERY_S),
    }
    return Process(name, [STILLROOM, "serve"], folder, {**inherited("R2_"), **shared, **own})


def _end(server: Process) -> None:
    if server.running is not None and server.is_running:
        server.running.terminate()
        server.running.wait(60)
