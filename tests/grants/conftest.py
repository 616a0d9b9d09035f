"""The application on a disk and on a real S3 server, and the steps of an upload with a grant."""

import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from fastapi import FastAPI

from in_process import JWT_SECRET, client_of
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, bucket_variables
from services.trust import TRUST
from stillroom.app import create_app
from stillroom.features.grants.probes import PROBE
from stillroom.settings import AllSettings
from stillroom.store.auth.grants import Scope
from stillroom.store.auth.tokens import mint_token

GRANTS = "/api/v1/storage/upload-grants"
COMPLETE = f"{GRANTS}/complete"
IMAGES = "/api/v1/storage/images"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
Grant = dict[str, Any]


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def checksum_of(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@dataclass
class Site:
    """A running application, a client with a token, and one without.

    Attributes:
        kind: `disk` or `bucket`.
        data: The data directory.
    """

    kind: str
    data: Path
    app: FastAPI
    client: httpx.AsyncClient
    operator: Operator | None

    async def ask(self, path: str, size: int, **terms: object) -> httpx.Response:
        return await self.client.post(GRANTS, json={"path": path, "size": size, **terms})

    async def grant(self, path: str, data: bytes = PNG, **terms: object) -> Grant:
        answer = await self.ask(path, len(data), **terms)
        assert answer.status_code == 200, answer.text
        found: Grant = answer.json()
        return found

    async def put(
        self,
        grant: Grant,
        data: bytes | AsyncIterator[bytes] = PNG,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Upload as a browser does, without a token."""
        headers = grant["headers"] if headers is None else headers
        if self.kind == "disk":
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport) as anyone:
                return await anyone.put(grant["url"], content=data, headers=headers)
        async with httpx.AsyncClient(verify=TRUST, timeout=60) as anyone:
            return await anyone.put(grant["url"], content=data, headers=headers)

    async def complete(self, grant: Grant | str) -> httpx.Response:
        text = grant if isinstance(grant, str) else grant["grant"]
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as anyone:
            return await anyone.post(COMPLETE, json={"grant": text})

    async def upload(self, path: str, data: bytes = PNG, **terms: object) -> Grant:
        """Upload a file, but do not complete the grant."""
        grant = await self.grant(path, data, **terms)
        answer = await self.put(grant, data)
        assert answer.status_code == 200, answer.text
        return grant

    async def save(self, path: str, data: bytes = PNG, **headers: str) -> httpx.Response:
        answer = await self.client.post(
            f"{IMAGES}/{path}", files={"file": data}, headers={**headers}
        )
        assert answer.status_code == 200, answer.text
        return answer

    async def read(self, path: str) -> bytes:
        answer = await self.client.get(f"{IMAGES}/{path}")
        if answer.status_code == 302:
            async with httpx.AsyncClient(verify=TRUST) as anyone:
                answer = await anyone.get(answer.headers["location"])
        assert answer.status_code == 200, answer.text
        return answer.content

    async def exists(self, path: str) -> bool:
        return (await self.client.head(f"{IMAGES}/{path}")).status_code == 200

    def uploads(self) -> list[str]:
        """Names of the uploads that are not completed, without tests that were interrupted."""
        if self.operator is not None:
            keys = [key for key in self.operator.keys("temp/") if not key.startswith(PROBE)]
            return [key.removeprefix("temp/") for key in keys]
        folder = self.data / ".stillroom" / "uploads"
        return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


class Opens(Protocol):
    def __call__(self, **variables: str) -> AbstractAsyncContextManager[Site]: ...


def token(
    folder: str | None = None, scopes: Sequence[Scope] | None = None, subject: str | None = None
) -> str:
    hour = timedelta(hours=1)
    return mint_token(JWT_SECRET, expires_in=hour, scopes=scopes, folder=folder, subject=subject)


def settings_of(bucket: SeaweedFS | None, data: Path) -> dict[str, str]:
    return {
        "STILLROOM_JWT_SECRET": JWT_SECRET,
        "STILLROOM_DATA_DIR": str(data),
        "STILLROOM_SWEEP_INTERVAL_SECONDS": "0",
        "STILLROOM_MIN_FREE_BYTES": "0",
        **(bucket_variables(bucket) if bucket else {}),
    }


@pytest.fixture(params=["disk", pytest.param("bucket", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bucket(kind: str, request: pytest.FixtureRequest) -> SeaweedFS | None:
    if kind == "disk":
        return None
    server: SeaweedFS = request.getfixturevalue("seaweed")
    return server


@pytest.fixture
def opens(
    kind: str, bucket: SeaweedFS | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Opens:
    """Opens a further process of the same store; each has its own settings."""

    @contextlib.asynccontextmanager
    async def run(**variables: str) -> AsyncIterator[Site]:
        given = {**settings_of(bucket, tmp_path), **variables}
        with monkeypatch.context() as patched:
            for name, value in given.items():
                patched.setenv(name, value)
            app = create_app(AllSettings.read())
        operator = None if bucket is None else Operator(bucket.endpoint_url)
        async with client_of(app, authorization=f"Bearer {token()}") as client:
            yield Site(kind, tmp_path, app, client, operator)

    return run


@pytest.fixture
async def site(opens: Opens, bucket: SeaweedFS | None) -> AsyncIterator[Site]:
    async with opens() as running:
        yield running
    if bucket is not None:
        assert running.operator is not None
        for key in running.operator.keys(""):
            running.operator.delete(key)
        bucket.empty()
