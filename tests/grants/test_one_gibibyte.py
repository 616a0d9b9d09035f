"""An upload of 1 GiB to a bucket passes the server by, and costs few operations."""

import asyncio
import base64
import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from grants.conftest import COMPLETE, GRANTS
from in_process import started
from services.stub_r2 import Stored, StubR2, facts, served
from services.stub_wire import CLASS_B, FREE, error, key_of, operation_of, stored_headers
from stillroom.features.grants.probes import PROBE
from waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.whole]

SIZE = 1024**3
HEAD = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 256
BLOCK = bytes(1024**2)
SHA256 = "fc1b5dc4423f1f7cac46e242113fc744101a5f952902f41562aec1c2dcf03cd0"  # computed once
INDEX_BYTES = 512 * 1024
"""Bytes that the search index reads at most: the beginning, some chunks, and the last 256 KiB."""

CHECKSUM = base64.b64encode(bytes.fromhex(SHA256)).decode()


def content() -> Iterator[bytes]:
    yield HEAD
    for sent in range(len(HEAD), SIZE, len(BLOCK)):
        yield BLOCK[: SIZE - sent]


def upload(grant: dict[str, Any]) -> int:
    """Send the file in a thread, as a browser does, and return the status."""
    url = urlsplit(grant["url"])
    connection = http.client.HTTPConnection(url.netloc, timeout=300)
    with contextlib.closing(connection):
        headers = {**grant["headers"], "Content-Length": str(SIZE)}
        connection.request("PUT", f"{url.path}?{url.query}", content(), headers)
        return connection.getresponse().status


@dataclass(frozen=True)
class Sparse:
    """Content of an object: its first bytes, and then zeros."""

    head: bytes
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> bytes:
        length = len(range(*part.indices(self.size)))
        return self.head[part].ljust(length, b"\0")


@dataclass(frozen=True)
class Asked:
    """A request of the server, and the bytes of its body and of its response."""

    operation: str
    key: str
    moved: int


class LargeR2(StubR2):
    """R2 that keeps only the first bytes of uploads by clients."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        operation, key = operation_of(request), key_of(request)
        is_test = key.startswith((".stillroom/", PROBE))  # of the bucket, once in each process
        if key.startswith("temp/") and operation == "PutObject" and not is_test:
            self.asked.append(Asked(operation, key, 0))  # its bytes come from the client
            return await self._receive(request, key)
        response = await super().handle(request)
        assert isinstance(response, web.Response)
        body = cast("bytes", response.body or b"")
        if not is_test:
            moved = (request.content_length or 0) + len(body)
            self.asked.append(Asked(operation, key, moved))
        return response

    async def _receive(self, request: web.Request, key: str) -> web.StreamResponse:
        head, size = b"", 0
        async for chunk in request.content.iter_any():
            more = chunk[: len(HEAD) - len(head)]
            head += more
            size += len(chunk)
            assert chunk.count(0, len(more)) == len(chunk) - len(more)
        assert head == HEAD
        checksum = request.headers.get("x-amz-checksum-sha256", CHECKSUM)
        if (size, checksum) != (SIZE, CHECKSUM):
            return error(400, "BadDigest")
        body = cast("bytes", Sparse(head, size))
        self.objects[key] = Stored(body, stored_headers(request), '"0123"')
        return web.Response(headers={"ETag": '"0123"'})

    def _HeadObject(  # noqa: N802  (as S3 calls the operation)
        self, _: web.Request, key: str, __: bytes
    ) -> web.Response:
        found = self.objects.get(key)
        return web.Response(headers=facts(found)) if found else web.Response(status=404)


@pytest.mark.parametrize("is_hash_declared", [True, False])
async def test_a_gibibyte_costs_64_kib_and_two_operations_of_each_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_hash_declared: bool
) -> None:
    terms: dict[str, Any] = {"path": "a.png", "size": SIZE}
    if is_hash_declared:
        terms["sha256"] = SHA256
    async with served(LargeR2()) as stub:
        variables = {**stub.variables, "STILLROOM_DATA_DIR": str(tmp_path)}
        async with started(variables, monkeypatch) as (_, client):
            await client.post(GRANTS, json={"path": "first.png", "size": 1})
            await eventually(lambda: "ListObjectsV2" in stub.operations)  # the index, after a start
            stub.asked.clear()

            grant = (await client.post(GRANTS, json=terms)).raise_for_status().json()
            assert await asyncio.to_thread(upload, grant) == 200
            completed = await client.post(COMPLETE, json={"grant": grant["grant"]})

            assert completed.status_code == 200, completed.text
            saved = completed.json()
            assert (saved["size"], saved["sha256"]) == (SIZE, terms.get("sha256"))
            search = "/api/v1/storage/search?prefix=a.png"

            async def is_indexed() -> bool:
                return bool((await client.get(search)).json()["items"])

            await eventually(is_indexed)

    copied = [one.operation for one in stub.asked].index("CopyObject")
    of_index = [
        one for number, one in enumerate(stub.asked)
        if one.operation == "ListObjectsV2" or (one.key == "compute/a.png" and number > copied)
    ]  # fmt: skip
    others = [one for one in stub.asked if one not in of_index]
    class_b = [one for one in others if one.operation in CLASS_B]
    class_a = [one for one in others if one.operation not in (*CLASS_B, *FREE)]
    assert [one.operation for one in class_a] == ["PutObject", "CopyObject"]
    assert len(class_b) <= 2
    assert sum(one.moved for one in others if one.operation in CLASS_B) <= 64 * 1024
    assert sum(one.moved for one in others) < 64 * 1024 + 1000  # with the response to the copy
    assert sum(one.moved for one in of_index) <= INDEX_BYTES
    assert len(stub.objects["compute/a.png"].body) == SIZE
    assert [*stub.objects] == ["compute/a.png"]
