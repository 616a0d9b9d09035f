"""The application with a trash, on a disk and in a bucket, with both databases."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from grants.conftest import settings_of, token
from in_process import client_of
from services.s3 import Operator
from services.seaweedfs import SeaweedFS
from services.trust import TRUST
from stillroom.app import create_app
from stillroom.assembly import opened_features
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.library.feature import LibraryFeature
from stillroom.settings import AllSettings

IMAGES = "/api/v1/storage/images"
RUNS = "/api/v1/storage/runs"
TRASH = "/api/v1/storage/trash"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
PAIRS = [
    pytest.param(("disk", "sqlite"), id="disk-sqlite"),
    pytest.param(("bucket", "postgresql"), id="bucket-postgresql", marks=pytest.mark.slow),
    *(
        pytest.param(pair, id="-".join(pair), marks=[pytest.mark.slow, pytest.mark.whole])
        for pair in (("disk", "postgresql"), ("bucket", "sqlite"))
    ),
]


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    """A running application, and a client with a token.

    Attributes:
        kind: `disk` or `bucket`.
        data: The data directory.
    """

    kind: str
    data: Path
    app: FastAPI
    client: httpx.AsyncClient
    operator: Operator | None
    rows: RowsConfig
    variables: dict[str, str]

    async def sweep(self) -> None:
        """Execute the pending deletions that are due, as another process."""
        async with opened_features(AllSettings.of_values(**self.variables)) as store:
            await store.need(LibraryFeature).sweeper.sweep()

    async def save(
        self, path: str, data: bytes = PNG, expires_in: str | None = None
    ) -> dict[str, Any]:
        headers = {} if expires_in is None else {"Expires-In": expires_in}
        answer = await self.client.post(f"{IMAGES}/{path}", files={"file": data}, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def read(self, path: str) -> bytes | None:
        answer = await self.client.get(f"{IMAGES}/{path}")
        if answer.status_code == 302:
            async with httpx.AsyncClient(verify=TRUST) as anyone:
                answer = await anyone.get(answer.headers["location"])
        assert answer.status_code in (200, 404), answer.text
        return answer.content if answer.status_code == 200 else None

    async def discard(self, path: str) -> str:
        """Delete an image, and return its id in the trash."""
        answer = await self.client.delete(f"{IMAGES}/{path}")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["trash_id"])

    async def restore(self, trash_id: str, path: str | None = None) -> httpx.Response:
        body = {} if path is None else {"json": {"path": path}}
        return await self.client.post(f"{TRASH}/{trash_id}/restore", **body)  # type: ignore[arg-type]

    async def items(self, **query: str | int) -> list[dict[str, Any]]:
        answer = await self.client.get(TRASH, params=query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    async def stored(self) -> list[str]:
        paths: list[str] = (await self.client.get(IMAGES, params={"limit": 10_000})).json()
        return paths

    def places(self) -> list[str]:
        """Names of the files in the trash."""
        if self.operator is not None:
            return [key.removeprefix("trash/") for key in self.operator.keys("trash/")]
        folder = self.data / ".stillroom" / "trash"
        return sorted(file.name for file in folder.iterdir()) if folder.exists() else []

    async def query(self, statement: str) -> Sequence[sa.Row[Any]]:
        """Run a statement, in a thread: a transaction of the server may have to end before it."""
        return await asyncio.to_thread(self._query, statement)

    def _query(self, statement: str) -> Sequence[sa.Row[Any]]:
        with migrating(self.rows) as connection:
            result = connection.execute(sa.text(statement))
            return result.all() if result.returns_rows else ()

    async def expire(self) -> None:
        """Make all that is in the trash due."""
        due = "due_at = '2020-01-01 00:00:00'"
        await self.query(f"UPDATE media_deletions SET {due} WHERE reason = 'trash'")

    async def end_leases(self) -> None:
        """Let all claims of processes that were killed expire."""
        for table in ("media_deletions", "media_run_deletions"):
            past = "'2020-01-01 00:00:00'"
            await self.query(f"UPDATE {table} SET lease_until = {past} WHERE lease_until > {past}")


class Opens(Protocol):
    def __call__(self, **variables: str) -> AbstractAsyncContextManager[Site]: ...


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def bucket(pair: tuple[str, str], request: pytest.FixtureRequest) -> SeaweedFS | None:
    if pair[0] == "disk":
        return None
    server: SeaweedFS = request.getfixturevalue("seaweed")
    return server


@pytest.fixture
def rows(pair: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path) -> RowsConfig:
    if pair[1] == "sqlite":
        return SqliteConfig(tmp_path / ".stillroom" / "library.db")
    return PostgresConfig(request.getfixturevalue("database_url"))


@pytest.fixture
def variables(bucket: SeaweedFS | None, rows: RowsConfig, tmp_path: Path) -> dict[str, str]:
    url = {"STILLROOM_DATABASE_URL": rows.url} if isinstance(rows, PostgresConfig) else {}
    return {**settings_of(bucket, tmp_path), **url, "STILLROOM_TRASH": "7d"}


@pytest.fixture
def opens(
    bucket: SeaweedFS | None,
    rows: RowsConfig,
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Opens:
    """Opens a further process of the same store; each has its own settings."""

    @contextlib.asynccontextmanager
    async def run(**more: str) -> AsyncIterator[Site]:
        with monkeypatch.context() as patched:
            for name, value in {**variables, **more}.items():
                patched.setenv(name, value)
            app = create_app(AllSettings.read())
        operator = None if bucket is None else Operator(bucket.endpoint_url)
        kind = "disk" if bucket is None else "bucket"
        async with client_of(app, authorization=f"Bearer {token(subject='user-7')}") as client:
            yield Site(kind, tmp_path, app, client, operator, rows, {**variables, **more})

    return run


def _empty(operator: Operator | None, bucket: SeaweedFS | None) -> None:
    if operator is not None and bucket is not None:
        for key in operator.keys(""):
            operator.delete(key)
        bucket.empty()


@pytest.fixture
async def site(opens: Opens, bucket: SeaweedFS | None) -> AsyncIterator[Site]:
    async with opens() as running:
        _empty(running.operator, bucket)  # tests of other modules leave images
        yield running
    _empty(running.operator, bucket)
