"""HTTP operations that send many images as one ZIP file. The file is created while it is sent."""

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
_IN_MEMORY_BYTES: Final = 256 * 1024  # larger ZIP directories are moved to a temporary file
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

    @Operation("GET", "", (*_REFUSALS, 409, 413, 414), media_type=_ZIP, query=ArchiveParameters)
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
            name = (parameters.run or parameters.prefix).text.rstrip("/").rpartition("/")[2]
            captions = parameters.sidecars is not None
            response = _ArchiveResponse(
                self.storage, keys, name, captions=captions, skip_missing=True
            )
            response.held = held.pop_all()
            return response

    @Operation("POST", "", _REFUSALS, media_type=_ZIP, body=ImagesToArchive)
    async def make_archive(self, request: Request) -> Response:
        """Get up to 1,000 images as a ZIP file. An unreadable image aborts the response."""
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
                message = (
                    "must be the storage_key of an image in the media library, such as media/…"
                )
                raise InvalidPath(message, at=("body", "storage_keys"))
            keys.append(StorageKey(text))
        if not 1 <= len(keys) <= MAX_PATHS:
            raise InvalidPath(f"must contain 1 to {MAX_PATHS:,} images", at=("body", "paths"))
        await for_each_concurrently(self._require, keys, limit=_CONCURRENT_CHECKS)
        ordered = iterate(sorted(keys, key=lambda key: key.text.encode()))
        captions = body.sidecars is not None
        return _ArchiveResponse(self.storage, ordered, captions=captions, skip_missing=False)

    async def _require(self, key: StorageKey) -> None:
        try:
            await self.storage.stat(key)
        except ImageNotFound as error:
            error.args = (f"{image_entry(key.text)}: no such image",)
            raise


class _ArchiveResponse(Response):
    """Response that sends a ZIP file while creating it. Any error aborts the response."""

    def __init__(
        self,
        storage: ImageStorage,
        keys: AsyncGenerator[StorageKey, None],
        name: str = "",
        *,
        captions: bool,
        skip_missing: bool,
    ) -> None:
        """Create a response with the images at `keys`, which are in the order of a listing.

        `captions` adds a text file with the prompt of each image. If an image is deleted or
        replaced meanwhile, the response is aborted or, with `skip_missing`, the image is omitted.
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
        self._records = bytearray()  # ZIP directory records that are not in `_directory` yet
        self._directory = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  (`__call__` closes it)
        self.held = contextlib.ExitStack()  # closed after the response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        with self.held, contextlib.suppress(ConnectionError), self._directory:
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
        await self._move_records()
        size = self._directory.tell()
        await asyncio.to_thread(self._directory.seek, 0)
        while piece := await asyncio.to_thread(self._directory.read, _IN_MEMORY_BYTES):
            yield piece
        yield self._zip.end(size)

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
        self._records += record
        if len(self._records) > _IN_MEMORY_BYTES:
            await self._move_records()
        return tail

    async def _move_records(self) -> None:
        records, self._records = self._records, bytearray()
        try:
            await asyncio.to_thread(self._directory.write, records)
        except OSError as error:
            raise StorageFull from error


class _Captions:
    """Caption files of one ZIP file. A caption file contains the prompt of an image.

    The caption file of `cat.png` is `cat.txt`, as training tools expect. If an image or another
    caption file has that name, `cat.png.txt` is used. Images whose caption files could have equal
    names (`cat`, `cat.jpg`, `cat.png`) are near each other in a listing. `names` therefore contains
    only the names of recent caption files.
    """

    def __init__(self, storage: ImageStorage) -> None:
        self._storage = storage
        self.names: list[str] = []

    async def read(self, opened: OpenedImage) -> tuple[str, bytes] | None:
        """Return a caption file's name and content, or None if no prompt or unused name exists."""
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
        # A name that is too long for a path cannot be used as a file name either.
        with contextlib.suppress(InvalidPath):
            try:
                await self._storage.stat(StorageKey.of_image(ImagePath.parse(name)))
            except ImageNotFound:
                return False
        return True
