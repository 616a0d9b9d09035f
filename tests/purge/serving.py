"""A server whose images are at an edge, and what its tests do with it."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import sqlalchemy as sa

from pictures import picture
from purge.cloudflare import Cloudflare
from running import IMAGES, Server, running
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.features.database.clock import now
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.purge.tables import purges
from waiting import until

LIBRARY: Final = "/api/v1/media-resources"


@dataclass
class Site:
    """A running server with its edge."""

    server: Server
    api: Cloudflare
    client: httpx.Client
    rows: RowsConfig

    def save(self, path: str, data: bytes | None = None) -> bytes:
        image = picture(secrets.randbelow(1 << 24)) if data is None else data
        self.client.post(f"{IMAGES}/{path}", files={"file": image}).raise_for_status()
        return image

    def ingest(self, path: str, *, relocate: bool = True) -> dict[str, Any]:
        asked = {"storage_key": f"compute/{path}", "relocate": relocate}
        answer = self.client.post(f"{LIBRARY}/ingest", json=asked).raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def delete(self, resource: dict[str, Any], query: str = "") -> httpx.Response:
        return self.client.delete(f"{LIBRARY}/{resource['id']}{query}")

    def until_purged(self, key: str, times: int = 1) -> None:
        url = f"{self.api.edge}/{key}"
        until(
            lambda: len(self.api.purged.get(url, [])) >= times,
            by=self.server.process, said=self.server.logged,
        )  # fmt: skip

    def queued(self) -> list[Any]:
        with migrating(self.rows) as connection:
            return [*connection.execute(sa.select(purges)).all()]

    def hurry(self) -> None:
        """Let the pause before the second purge end, and those after failures."""
        with migrating(self.rows) as connection:
            connection.execute(sa.update(purges).values(due_at=now()))


@contextlib.contextmanager
def started(
    folder: Path, seaweed: SeaweedFS, api: Cloudflare, *flags: str, **more: str
) -> Iterator[Site]:
    """Start a server that sweeps often, without a grace period. `more` has further settings."""
    settings = {"STILLROOM_DELETION_GRACE_SECONDS": "0", **more}
    variables = {**bucket_variables(seaweed), **api.variables, **settings}
    under = " ".join(["env", *(f"{name}={value}" for name, value in variables.items())])
    with running(folder, *flags, under=under, sweep_interval_seconds="0.2") as server:
        url = more.get("STILLROOM_DATABASE_URL")
        rows = PostgresConfig(url) if url else SqliteConfig(server.data / ".stillroom/library.db")
        with server.client() as client:
            yield Site(server, api, client, rows)
