"""A store that grants uploads: its server, other processes of it, and its files or objects."""

import contextlib
import os
from pathlib import Path
from typing import Any, Final

import httpx

from crash.grant_deeds import Deeds, Order
from running import IMAGES, Server, running
from services.faulty_proxy import FaultyProxy, faulty_proxy
from services.s3 import Operator
from services.seaweedfs import BUCKET, SeaweedFS, bucket_variables, seaweedfs
from services.trust import TRUST

STORAGES: Final = ("disk", "bucket")
GRANTS: Final = "/api/v1/storage/upload-grants"
_SECRET: Final = "a secret of 32 bytes for tests only"
_TESTS: Final = Path(__file__).parents[1]
_HOURS_LATER: Final = 26
"""A grant of an hour has expired by then, and its upload was not completed for a day."""


class GrantSite:
    """Grants of a store on a disk, or in a bucket behind a proxy that can fail.

    `server` is a real process with a port. `deeds` carries out orders in further processes.
    """

    def __init__(self, folder: Path, storage: str, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack, self._minted = folder, stack, dict[tuple[str, ...], str]()
        self._private = folder / "data" / ".stillroom"
        self.proxy: FaultyProxy | None = None
        self.bucket: SeaweedFS | None = None
        self._variables: dict[str, str] = {}
        if storage == "bucket":
            (folder / "seaweedfs").mkdir()
            self.bucket = stack.enter_context(seaweedfs(folder / "seaweedfs"))
            self._operator = Operator(self.bucket.endpoint_url)
            self._operator.make_bucket()
            self.proxy = stack.enter_context(faulty_proxy(self.bucket.endpoint_url))
            endpoint = {"R2_ENDPOINT_URL": self.proxy.endpoint_url}
            self._variables = bucket_variables(self.bucket) | endpoint
        self.server = self._started()
        python_path = f"{_TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        environment = {**self.server.environment, **self._variables, "PYTHONPATH": python_path}
        self.deeds = stack.enter_context(contextlib.closing(Deeds(environment)))

    def _started(self) -> Server:
        variables = [f"{name}={value}" for name, value in self._variables.items()]
        under = " ".join(["env", *variables])
        starting = running(self._folder, under=under, jwt_secret=_SECRET)
        server = self._stack.enter_context(starting)
        server.minted, server.follows = self._minted, True
        return server

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        """Start a server after the last one was killed; its port is another one."""
        self.server = self._started()

    def read(self, client: httpx.Client, path: str) -> bytes | None:
        answer = client.get(f"{IMAGES}/{path}")
        if answer.status_code == 404:
            return None
        return answer.raise_for_status().content

    def put(self, grant: dict[str, Any], content: bytes, *, timeout_s: float = 60) -> int:
        """Upload as a client without a token. The server may have another port by now."""
        url = httpx.URL(grant["url"])
        if self.bucket is None:
            url = url.copy_with(port=self.server.port)
        with httpx.Client(verify=TRUST, timeout=timeout_s) as client:
            return client.put(url, content=content, headers=grant["headers"]).status_code

    @property
    def upload_port(self) -> int:
        """Port at which uploads arrive, without the proxy."""
        if self.bucket is None:
            return self.server.port
        return httpx.URL(self.bucket.endpoint_url).port or 0

    def images(self) -> list[str]:
        """Paths of all images, without the server's help."""
        return self._names("compute/", self._folder / "data" / "compute")

    def uploads(self) -> list[str]:
        """Names of the uploads that were not completed."""
        return self._names("temp/", self._private / "uploads")

    def leftovers(self) -> list[str]:
        """Other temporary files and objects."""
        if self.bucket is not None:
            return self._names(".stillroom/", None)
        folders = [self._private / name for name in ("staging", "grants")]
        return [name for folder in folders for name in self._names("", folder)]

    def _names(self, prefix: str, folder: Path | None) -> list[str]:
        if self.bucket is not None:
            return [key.removeprefix(prefix) for key in self._operator.keys(prefix)]
        assert folder is not None
        files = [file for file in folder.rglob("*") if not file.is_dir()]
        return sorted(str(file.relative_to(folder)) for file in files)

    def end_uploads(self, *, is_later: bool) -> None:
        """Let the sweeper or the lifecycle rule delete uploads, now or as if a day had passed.

        The clock of SeaweedFS cannot be changed: a day later, its rule is about all objects.
        """
        if self.bucket is None:
            hours = _HOURS_LATER if is_later else 0
            for kill_at in (1, 4, 0):
                swept = self.deeds.carry_out(Order("sweep", hours_later=hours, kill_at=kill_at))
            assert swept is not None
            return
        age = "<Date>2020-01-01T00:00:00Z</Date>" if is_later else "<Days>1</Days>"
        rule = (
            "<LifecycleConfiguration><Rule><ID>abandoned-uploads</ID><Status>Enabled</Status>"
            f"<Filter><Prefix>temp/</Prefix></Filter><Expiration>{age}</Expiration></Rule>"
            "</LifecycleConfiguration>"
        )
        answer = self._operator.send(
            "PUT", f"/{BUCKET}", query={"lifecycle": ""}, body=rule.encode()
        )
        assert answer.status_code == 200, answer.text
        self.bucket.apply_lifecycle()

    def complete_later(self, grant: dict[str, Any]) -> int:
        """Complete a grant when it has expired, and return the status."""
        found = self.deeds.carry_out(Order("complete", grant, hours_later=_HOURS_LATER))
        return found.status if found else 0
