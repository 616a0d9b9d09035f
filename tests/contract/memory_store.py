"""An object store in memory: the smallest driver there is, and the skeleton of another cloud's.

Keys map to objects; each method changes that in one step, so guards hold. What it cannot do by
itself is a URL that others read: a small server on loopback answers those.
"""

import contextlib
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web

from services.stub_wire import answering
from stillroom.store.objectstore import (
    ChangeResult,
    CreatedUpload,
    Guard,
    ListedPage,
    ListedUpload,
    ObjectHead,
    Properties,
    Refusal,
    UploadsPage,
)


@dataclass
class Stored:
    body: bytes
    properties: Properties
    etag: str
    modified_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def head(self) -> ObjectHead:
        kind, metadata = self.properties.content_type, self.properties.metadata
        return ObjectHead(self.etag, len(self.body), self.modified_s, kind or "", metadata)


@dataclass
class Begun:
    key: str
    properties: Properties
    parts: dict[int, bytes] = field(default_factory=dict)


class MemoryObjectStore:
    keeps_guards = False

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Begun] = {}
        self._url = ""
        self._numbers = itertools.count(1)

    # Objects

    async def put(
        self,
        key: str,
        body: bytes | memoryview,
        sha256: str,
        properties: Properties,
        *,
        guard: Guard | None = None,
        **_: object,
    ) -> ChangeResult:
        assert hashlib.sha256(body).hexdigest() == sha256
        return self._write(key, bytes(body), properties, guard)

    def _write(
        self, key: str, body: bytes, properties: Properties, guard: Guard | None
    ) -> ChangeResult:
        there = self.objects.get(key)
        if guard is not None:
            if there is None and guard.etag is not None:
                return ChangeResult(None, Refusal.MISSING)
            if there is not None and there.etag != guard.etag:
                return ChangeResult(None, Refusal.GUARD_FAILED)
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        self.objects[key] = Stored(body, properties, etag)
        return ChangeResult(etag)

    async def head(self, key: str, **_: object) -> ObjectHead | None:
        return self.objects[key].head if key in self.objects else None

    async def get_range(self, key: str, etag: str, start: int, last: int) -> bytes | None:
        there = self.objects.get(key)
        return there.body[start : last + 1] if there and there.etag == etag else None

    async def download(self, key: str) -> "tuple[ObjectHead, MemoryDownload] | None":
        there = self.objects.get(key)
        return None if there is None else (there.head, MemoryDownload(there))

    async def copy(
        self,
        source: str,
        etag: str,
        target: str,
        properties: Properties | None = None,
        *,
        guard: Guard | None = None,
        **_: object,
    ) -> ChangeResult:
        there = self.objects.get(source)
        if there is None:
            return ChangeResult(None, Refusal.MISSING)
        if there.etag != etag:
            return ChangeResult(None, Refusal.GUARD_FAILED)
        return self._write(target, there.body, properties or there.properties, guard)

    async def delete(self, key: str, *, guard: Guard | None = None, **_: object) -> ChangeResult:
        there = self.objects.get(key)
        if guard is not None and (there is None or there.etag != guard.etag):
            return ChangeResult(None, Refusal.GUARD_FAILED if there else Refusal.MISSING)
        self.objects.pop(key, None)
        return ChangeResult()

    async def list(
        self,
        prefix: str,
        *,
        limit: int,
        after: str = "",
        token: str | None = None,
        delimited: bool = False,
        **_: object,
    ) -> ListedPage:
        entries = {_entry(key, prefix, delimited=delimited) for key in self.objects}
        behind = sorted(entry for entry in entries if entry and entry > (token or after))
        return ListedPage(behind[:limit], behind[limit - 1] if len(behind) > limit else None)

    # Multipart uploads

    async def create_upload(self, key: str, properties: Properties) -> CreatedUpload:
        upload_id = f"upload-{next(self._numbers)}"
        self.uploads[upload_id] = Begun(key, properties)
        return CreatedUpload(upload_id)

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: memoryview, sha256: str
    ) -> str:
        assert self.uploads[upload_id].key == key
        self.uploads[upload_id].parts[number] = bytes(body)
        return sha256

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[str],
        *,
        guard: Guard | None = None,
        **_: object,
    ) -> ChangeResult:
        begun = self.uploads.pop(upload_id, None)
        if begun is None:
            return ChangeResult(None, Refusal.MISSING)
        bodies = [begun.parts[number] for number in range(1, len(parts) + 1)]
        assert [hashlib.sha256(body).hexdigest() for body in bodies] == list(parts)
        return self._write(key, b"".join(bodies), begun.properties, guard)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        del key
        self.uploads.pop(upload_id, None)

    async def has_parts(self, key: str, upload_id: str) -> bool:
        del key
        return upload_id not in self.uploads or bool(self.uploads[upload_id].parts)

    async def list_uploads(self, prefix: str, after: tuple[str, str] | None = None) -> UploadsPage:
        del after  # all are on one page
        found = [
            ListedUpload(begun.key, upload_id, "1970-01-01T00:00:00+00:00")
            for upload_id, begun in self.uploads.items()
            if begun.key.startswith(prefix)
        ]
        return UploadsPage(found, None)

    # The bucket

    def presigned_url(self, key: str, *, valid_for_s: int) -> str:
        del valid_for_s
        return f"{self._url}/{quote(key)}"

    async def check(self, **_: object) -> None:
        pass

    async def close(self) -> None:
        pass

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async def answer(request: web.Request) -> web.Response:
            there = self.objects.get(request.match_info["path"])
            return web.Response(status=404) if there is None else web.Response(body=there.body)

        async with answering(answer) as port:
            self._url = f"http://127.0.0.1:{port}"
            yield


class MemoryDownload:
    def __init__(self, stored: Stored) -> None:
        self._body = stored.body

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), 65_536):
            yield self._body[start : start + 65_536]

    def close(self) -> None:
        pass


def _entry(key: str, prefix: str, *, delimited: bool) -> str | None:
    if not key.startswith(prefix):
        return None
    name, slash, _ = key.removeprefix(prefix).partition("/")
    return f"{prefix}{name}/" if delimited and slash else key
