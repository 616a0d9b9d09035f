"""`AsyncImageStore` methods that operate on a single image."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar, Unpack

import anyio
import anyio.to_thread
import httpx

from stillroom.client.archives import ARCHIVE_NAME, Sidecars, archive, check_archive
from stillroom.client.async_sender import AsyncSender
from stillroom.client.connection import Connection, Token
from stillroom.client.encoding import Encoding
from stillroom.client.exchange import AsyncSends, Flow, Wait
from stillroom.client.fetching import MAX_BYTES, fetched
from stillroom.client.lifetime import Lifetime, seconds_of
from stillroom.client.operations import (
    Condition,
    Operations,
)
from stillroom.client.pictures import Picture, picture_query
from stillroom.client.retries import Retries
from stillroom.client.sinks import Sink, check_target, check_within, replacing, spool
from stillroom.client.sources import Facts, ImagePayload, Source, is_same, named, opened
from stillroom.client.values import (
    DownloadedImage,
    ImageInfo,
    ImageMetadata,
    OnProgress,
    SavedImage,
    SaveOptions,
)
from stillroom.paths import ImagePath

T = TypeVar("T")


class AsyncOneImageCalls:
    """Base class of `AsyncImageStore` with the methods that operate on a single image."""

    def __init__(
        self,
        url: str | None = None,
        token: Token | None = None,
        *,
        deadline_s: float = 120,
        timeout_s: float = 60,
        connect_deadline_s: float = 10,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """See `ImageStore`. Pass `httpx.ASGITransport(app)` to use an app in this process."""
        connection = Connection.to(url, token)
        retries = Retries(
            deadline_s=deadline_s, timeout_s=timeout_s, connect_deadline_s=connect_deadline_s
        )
        self._operations = Operations(connection.root, retries)
        self._sender: AsyncSends = AsyncSender(connection, transport)

    async def save(
        self,
        path: str,
        source: Source,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        unique: bool = False,
        generation: Facts | None = None,
        ai_generated: bool = False,
        expires_in: Lifetime | None = None,
        progress: OnProgress | None = None,
        **encoding: Unpack[Encoding],
    ) -> SavedImage:
        """See `ImageStore.save`; `progress` is called on the event loop."""
        name = named(path)
        condition = Condition(if_match, if_none_match)
        if unique and condition.fields:
            raise TypeError("unique=True cannot be combined with if_match or if_none_match")
        async with _open_in_thread(
            source, name, generation, ai_generated=ai_generated, encoding=encoding
        ) as upload:
            if unique:
                flow = self._operations.save_unique(name, upload, progress, expires_in)
            else:
                flow = self._operations.save(name, upload, condition, progress, expires_in)
            return await self._run(flow)

    async def save_url(
        self,
        path: str,
        url: str,
        *,
        max_bytes: int = MAX_BYTES,
        allow_private: bool = False,
        **options: Unpack[SaveOptions],
    ) -> SavedImage:
        """See `ImageStore.save_url`; a thread fetches the URL."""
        named(path)
        retries = self._operations.retries
        fetching = fetched(
            url,
            max_bytes=max_bytes,
            allow_private=allow_private,
            deadline_s=retries.deadline_s,
            timeout_s=retries.timeout_s,
        )
        with ExitStack() as stack:
            file = await anyio.to_thread.run_sync(fetching.__enter__)
            stack.push(fetching.__exit__)
            return await self.save(path, file, **options)

    async def save_unless_same(
        self,
        path: str,
        source: Source,
        *,
        generation: Facts | None = None,
        ai_generated: bool = False,
        progress: OnProgress | None = None,
        **encoding: Unpack[Encoding],
    ) -> SavedImage:
        """See `ImageStore.save_unless_same`."""
        name = named(path)
        async with _open_in_thread(
            source, name, generation, ai_generated=ai_generated, encoding=encoding
        ) as upload:
            return await self._run(self._operations.save_unless_same(name, upload, progress))

    async def open(self, path: str, *, progress: OnProgress | None = None) -> IO[bytes]:
        """See `ImageStore.open`. The returned file is not asynchronous: it needs no `await`."""
        file = spool()
        try:
            await self._download(path, file, progress)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def read(
        self, path: str, *, progress: OnProgress | None = None, **picture: Unpack[Picture]
    ) -> bytes:
        """See `ImageStore.read`."""
        with spool() as file:
            query = picture_query(picture)
            flow = self._operations.download(named(path), Sink(file), progress, query)
            await self._run(flow)
            file.seek(0)
            return await anyio.to_thread.run_sync(file.read)

    async def download(
        self,
        path: str,
        target: Path | IO[bytes],
        *,
        within: Path | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """See `ImageStore.download`."""
        check_target(target)
        if not isinstance(target, Path):
            await self._download(path, target, progress)
            return
        with replacing(target, named(path), within) as file:
            await self._download(path, file, progress)

    async def download_unless_same(
        self,
        path: str,
        file: Path,
        *,
        within: Path | None = None,
        progress: OnProgress | None = None,
    ) -> DownloadedImage:
        """See `ImageStore.download_unless_same`."""
        check_target(file)
        check_within(file, within)
        if await anyio.to_thread.run_sync(file.exists):
            found = await self.stat(path)
            same = partial(is_same, file, size=found.size, sha256=found.sha256)
            if await anyio.to_thread.run_sync(same):
                return DownloadedImage(path, file, skipped=True)
        await self.download(path, file, within=within, progress=progress)
        return DownloadedImage(path, file)

    async def _download(self, path: str, file: IO[bytes], progress: OnProgress | None) -> None:
        await self._run(self._operations.download(named(path), Sink(file), progress))

    async def archive(
        self,
        images: str | Iterable[str],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> IO[bytes]:
        """See `ImageStore.archive`."""
        file = spool()
        try:
            await self.download_archive(images, file, sidecars=sidecars, progress=progress)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def download_archive(
        self,
        images: str | Iterable[str],
        target: Path | IO[bytes],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """See `ImageStore.download_archive`."""
        check_target(target)
        if isinstance(target, Path):
            with replacing(target, ARCHIVE_NAME) as file:
                await self.download_archive(images, file, sidecars=sidecars, progress=progress)
            return
        retries = self._operations.retries
        await self._run(archive(retries, images, sidecars, Sink(target), progress))
        await anyio.to_thread.run_sync(check_archive, target)

    async def exists(self, path: str) -> bool:
        """See `ImageStore.exists`."""
        return await self._run(self._operations.exists(named(path)))

    async def stat(self, path: str) -> ImageInfo:
        """See `ImageStore.stat`."""
        return await self._run(self._operations.stat(named(path)))

    async def metadata(self, path: str) -> ImageMetadata:
        """See `ImageStore.metadata`."""
        return await self._run(self._operations.metadata(named(path)))

    async def delete(
        self, path: str, *, if_match: str | None = None, missing_ok: bool = False
    ) -> None:
        """See `ImageStore.delete`."""
        name = named(path)
        condition = Condition(if_match)
        await self._run(self._operations.delete(name, condition, missing_ok=missing_ok))

    async def copy(self, source: str, target: str) -> SavedImage:
        """See `ImageStore.copy`."""
        names = named(source), named(target)
        return await self._run(self._operations.copy(*names))

    async def move(self, source: str, target: str) -> SavedImage:
        """See `ImageStore.move`."""
        names = named(source), named(target)
        return await self._run(self._operations.move(*names))

    async def signed_url(
        self,
        path: str,
        *,
        expires_in: Lifetime = "1h",
        **picture: Unpack[Picture],
    ) -> str:
        """See `ImageStore.signed_url`."""
        return (await self.signed_urls([path], expires_in=expires_in, **picture))[0]

    async def signed_urls(
        self,
        paths: Iterable[str],
        *,
        expires_in: Lifetime = "1h",
        **picture: Unpack[Picture],
    ) -> list[str]:
        """See `ImageStore.signed_urls`."""
        names, valid_for_s = [named(path) for path in paths], seconds_of(expires_in)
        return await self._run(self._operations.signed_urls(names, valid_for_s, picture))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._operations.root.removesuffix('/api/v1')!r})"

    # Sending -----------------------------------------------------------------------------

    async def close(self) -> None:
        """See `ImageStore.close`."""
        await self._sender.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Wait):
                    await anyio.sleep(step.seconds)
                    step = flow.send(None)
                else:
                    step = flow.send(await self._sender.send(step))
        except StopIteration as end:
            result: T = end.value
            return result


@asynccontextmanager
async def _open_in_thread(
    source: Source,
    name: ImagePath,
    generation: Facts | None,
    *,
    ai_generated: bool,
    encoding: Encoding,
) -> AsyncIterator[ImagePayload]:
    """Run `sources.opened` in a thread, because hashing and encoding block the event loop."""
    async with AsyncExitStack() as stack:
        opening = opened(source, name, generation, ai_generated=ai_generated, encoding=encoding)
        upload = await anyio.to_thread.run_sync(opening.__enter__)
        stack.push(opening.__exit__)
        yield upload
