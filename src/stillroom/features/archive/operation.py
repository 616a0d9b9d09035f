"""HTTP operations that send many images as one ZIP file, which is created while it is sent."""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Literal

from fastapi import Request, Response
from pydantic import Field
from starlette.types import Receive, Scope, Send

from stillroom.concurrently import for_each_concurrently
from stillroom.errors import BackendUnavailable, ImageNotFound, InvalidPath, StorageFull
from stillroom.features.archive.selection import (
    MAX_PATHS,
    ArchiveParameters,
    ArchiveSelection,
    iterate,
)
from stillroom.features.archive.zip_format import ZipWriter
from stillroom.generation.reading import find_by_reading, reader_of
from stillroom.paths import ImagePath, StorageKey, image_entry
from stillroom.store.api.call import Call, authenticate
from stillroom.store.api.forms import JsonForm
from stillroom.store.api.routes import Operation
from stillroom.store.auth.grants import Authorize
from stillroom.store.auth.signed_urls import ARCHIVE, UrlSigner, is_signed
from stillroom.store.http.fields import combined
from stillroom.store.http.problems import DATA_HEADERS
from stillroom.store.port import ImageStorage
from stillroom.store.values import OpenedImage
from stillroom.wire.shown import PATH_EXAMPLE

_ZIP: Final = "application/zip"
_CONCURRENT_CHECKS: Final = 16
_IN_MEMORY_BYTES: Final = 256 * 1024  # larger ZIP directories are moved to a file
_LIBRARY_KEY: Final = re.compile(r"media/[0-9a-f-]{36}/file\.[a-z0-9]{1,16}")
_MAX_NAME: Final = 100
_UNSAFE_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9._-]")


# `max_bytes` is enough for 1,000 of the longest paths with JSON escapes.
class ImagesToArchive(JsonForm, max_bytes=4 * 1024**2, example='{"paths": ["…"]}'):
    """Request body: paths of the images to send as a ZIP file."""

    paths: list[str] = Field(default=[], max_length=MAX_PATHS, examples=[[PATH_EXAMPLE]])
    storage_keys: list[str] = Field(
        default=[],
        max_length=MAX_PATHS,
        description="Keys of the media library.",
        examples=[["media/0197c2a8-7d1e-7c3a-9f00-3b5d8e1a2c4f/file.png"]],
    )
    sidecars: Literal["captions"] | None = Field(
        default=None, description="`captions` adds a text file for each image with a prompt."
    )


_REFUSALS: Final = (404, 501, 503)


@dataclass(frozen=True, slots=True)
class Archives:
    """Operations that send many images as one ZIP file."""

    storage: ImageStorage
    authorize: Authorize
    selection: ArchiveSelection
    signer: UrlSigner | None = None

    @Operation("GET", "", (*_REFUSALS, 409, 413), media_type=_ZIP, query=ArchiveParameters)
    async def get_archive(self, request: Request) -> Response:
        """Get all images with a prefix, or in a published run, as one ZIP file.

        If an image cannot be read, the server aborts the response. The received file is then
        incomplete, and ZIP tools reject it. With a signed URL, no token is needed.
        """
        fields, query = combined(request.headers.raw), request.scope["query_string"]
        is_link = "authorization" not in fields and is_signed(query)
        with contextlib.ExitStack() as held:
            if is_link and self.signer is not None:
                grant = self.signer.check(ARCHIVE.text.encode(), query, purpose=ARCHIVE.text)
                held.enter_context(self.selection.link())
            else:
                grant = await authenticate(self.authorize, fields)
            parameters = Call(request, fields, grant).query(ArchiveParameters)
            # An error in the first listing can still be reported with its own status code.
            keys = await self.selection.keys(parameters.within(grant), is_link=is_link)
            return _ArchiveResponse(
                self.storage,
                keys,
                (parameters.run or parameters.prefix).text.rstrip("/").rpartition("/")[2],
                captions=parameters.sidecars is not None,
                skip_missing=True,
                held=held.pop_all(),
            )

    @Operation("POST", "", _REFUSALS, media_type=_ZIP, body=ImagesToArchive)
    async def make_archive(self, request: Request) -> Response:
        """Get up to 1,000 images as a ZIP file. If one cannot be read, the response is aborted."""
        call = await Call.of(request, self.authorize)
        call.grant.require_scope("storage:read")
        body = await call.json(ImagesToArchive)
        keys: list[StorageKey] = []
        for text in dict.fromkeys(body.paths):
            path = ImagePath.parse(text, at=("body", "paths"))
            call.grant.require("storage:read", path)
            keys.append(StorageKey.of_image(path))
        for text in dict.fromkeys(body.storage_keys):
            call.grant.require_everywhere("media")
            if not _LIBRARY_KEY.fullmatch(text):
                raise InvalidPath(
                    "must be the storage_key of an image in the media library, such as media/…",
                    at=("body", "storage_keys"),
                )
            keys.append(StorageKey(text))
        if not 1 <= len(keys) <= MAX_PATHS:
            raise InvalidPath(f"must contain 1 to {MAX_PATHS:,} images", at=("body", "paths"))
        await for_each_concurrently(self._require, keys, limit=_CONCURRENT_CHECKS)
        captions = body.sidecars is not None
        ordered = iterate(sorted(keys, key=lambda key: key.text.encode()))
        return _ArchiveResponse(
            self.storage, ordered, "images", captions=captions, skip_missing=False
        )

    async def _require(self, key: StorageKey) -> None:
        try:
            await self.storage.stat(key)
        except ImageNotFound as error:
            error.args = (f"{image_entry(key.text)}: no such image",)
            raise


class _ArchiveResponse(Response):
    """Response that sends a ZIP file while creating it, so that memory use is constant.

    If there is an error after the headers were sent, the server aborts the response.
    """

    def __init__(
        self,
        storage: ImageStorage,
        keys: AsyncGenerator[StorageKey, None],
        name: str,
        *,
        captions: bool,
        skip_missing: bool,
        held: contextlib.ExitStack | None = None,
    ) -> None:
        """Create a response with the images at `keys`, which are in the order of a listing.

        `captions` adds each image's prompt as a text file. An image that is deleted or replaced
        meanwhile is omitted if `skip_missing` is True, else it aborts the response.
        """
        super().__init__()
        file = _UNSAFE_CHARACTERS.sub("_", name).strip(".")[:_MAX_NAME] or "images"
        fields = {
            **dict(DATA_HEADERS),
            "content-type": _ZIP,
            "cache-control": "private, no-store",
            "content-disposition": f'attachment; filename="{file}.zip"',
        }
        self.raw_headers = [(key.encode(), value.encode()) for key, value in fields.items()]
        self._storage = storage
        self._keys = keys
        self._captions = _Captions(storage) if captions else None
        self._skip_missing = skip_missing
        self._zip = ZipWriter()
        self._directory = _Directory()
        self._held = held or contextlib.ExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        with self._held, contextlib.suppress(ConnectionError), contextlib.closing(self._directory):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with contextlib.aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(self._keys) as keys:
            async for key in keys:
                async for piece in self._image(key):
                    yield piece
        async for piece in self._directory.chunks():
            yield piece
        yield self._zip.end(self._directory.size)

    async def _image(self, key: StorageKey) -> AsyncGenerator[bytes, None]:
        path = image_entry(key.text)
        if self._captions is not None and path in self._captions.names:
            self._require_skippable(path, "replaced")
            return
        try:
            opened = await self._storage.open(key)
        except ImageNotFound as error:
            self._require_skippable(path, "deleted", error)
            return
        with contextlib.closing(opened):
            image = opened.image
            caption = await self._captions.read(opened) if self._captions is not None else None
            yield self._zip.begin(path, image.size, image.modified_ns)
            async for chunk in opened.chunks(0, image.size):
                yield self._zip.data(chunk)
            yield await self._end_entry(image.size, path)
        if caption is not None:
            name, text = caption
            yield self._zip.begin(name, len(text), image.modified_ns)
            yield self._zip.data(text)
            yield await self._end_entry(len(text), name)

    def _require_skippable(self, path: str, change: str, cause: Exception | None = None) -> None:
        if not self._skip_missing:
            raise BackendUnavailable(
                f"{path} was {change} while the archive was sent: request the archive again"
            ) from cause

    async def _end_entry(self, size: int, name: str) -> bytes:
        if self._zip.size != size:
            raise BackendUnavailable(
                f"the archive cannot be completed, because the storage returned {self._zip.size} "
                f"bytes of {name} instead of {size}: request the archive again"
            )
        tail, record = self._zip.end_entry()
        await self._directory.add(record)
        return tail


class _Directory:
    """Directory records of a ZIP file, kept in memory or a temporary file until they are sent."""

    def __init__(self) -> None:
        self.size = 0
        self._pending = bytearray()
        # The first write exceeds this size of one byte, and so creates a file.
        self._file = tempfile.SpooledTemporaryFile(1)  # noqa: SIM115  (`close` closes it)

    async def add(self, record: bytes) -> None:
        self._pending += record
        self.size += len(record)
        if len(self._pending) > _IN_MEMORY_BYTES:
            pending, self._pending = self._pending, bytearray()
            try:
                await asyncio.to_thread(self._file.write, pending)
            except OSError as error:
                raise StorageFull from error

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        self._file.seek(0)
        while chunk := await asyncio.to_thread(self._file.read, _IN_MEMORY_BYTES):
            yield chunk
        if self._pending:
            yield bytes(self._pending)

    def close(self) -> None:
        self._file.close()


class _Captions:
    """Caption files of one archive. A caption file contains the prompt of an image.

    The caption file of `cat.png` is `cat.txt`, as training tools expect. If an image or another
    caption file has that name, `cat.png.txt` is used. Images whose caption files could have equal
    names (`cat`, `cat.jpg`, `cat.png`) are near each other in a listing, so that only the `names`
    of recent caption files are needed.
    """

    def __init__(self, storage: ImageStorage) -> None:
        self._storage = storage
        self.names: list[str] = []

    async def read(self, opened: OpenedImage) -> tuple[str, bytes] | None:
        generation = (await find_by_reading(opened.image.size, reader_of(opened.chunks))).generation
        if generation is None or not generation.prompt:
            return None
        path = image_entry(opened.image.key.text)
        folder, slash, file = path.rpartition("/")
        stem = f"{folder}{slash}{file.rpartition('.')[0] or file}"
        self.names = [
            name
            for name in self.names
            if path.startswith(stem_dot := name.removesuffix("txt")) or path < stem_dot
        ]
        for name in (f"{stem}.txt", f"{path}.txt"):
            if name not in self.names and not await self._is_image(name):
                self.names.append(name)
                return name, generation.prompt.encode("utf-8", "replace")
        return None

    async def _is_image(self, name: str) -> bool:
        try:
            await self._storage.stat(StorageKey.of_image(ImagePath.parse(name)))
        except ImageNotFound:
            return False
        except InvalidPath:
            return True  # too long for a path, so it cannot be used as a file name either
        return True
