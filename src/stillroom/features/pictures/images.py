"""Thumbnails ("derived images"): from the cache, from a decoding process or from the CDN."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import importlib.metadata
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from typing import Final, TypeVar, TypeVarTuple
from urllib.parse import quote, urlsplit
from weakref import WeakValueDictionary

from stillroom.bounded_cache import BoundedCache
from stillroom.errors import BackendUnavailable, UnsupportedMedia
from stillroom.features.pictures.cache import DerivedCache, DerivedConfig, DerivedImage
from stillroom.features.pictures.decoders import Decoders
from stillroom.features.pictures.derivation import Derivation
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation.ai_mark import TYPES
from stillroom.generation.reading import by_reading, find_mark, reader_of
from stillroom.generation.writing.mark import with_ai_mark
from stillroom.paths import StorageKey
from stillroom.store.content_type import VIDEO
from stillroom.store.values import LocalImage, OpenedImage, RemoteImage, StoredImage

_REVISION: Final = 1  # increase it when the same request should return other bytes
_MAX_ORIGINAL_BYTES: Final = 128 * 1024**2  # a hundred megapixels of noise are not larger
_KEPT_IN_MEMORY_BYTES: Final = 4 * 1024**2  # larger originals are copied to a temporary file
_MAX_FLIGHTS: Final = 256  # thumbnails that are being made; each needs an open file descriptor
_MAX_FLIGHTS_OF_ONE: Final = 32  # thumbnails of one original, which are made one after another
_REFUSED_FOR_S: Final = 3600.0
_MAX_REFUSED: Final = 4096  # originals that are remembered as undecodable
_MAX_MARKED: Final = 16_384  # remembered AI marks (4 MiB); reading one takes 0.2 ms
_TURN_POLL_S: Final = 0.02  # seconds between attempts to lock an original
_TURN_S: Final = 20.0  # timeout for the lock of an original, after which the client should retry
_MAX_FRAME_SIDE: Final = 2000  # pixels of the video frames that Cloudflare returns
_FETCHES: Final = 4  # originals that are read from a bucket at the same time
# Content types that are never decoded. Other types may be wrong, so decoding is tried.
_UNDECODABLE: Final = VIDEO | {
    "application/json", "application/xml", "text/html", "text/plain",
    "image/heic", "image/jxl", "image/svg+xml", "image/tiff", "image/x-icon",
}  # fmt: skip
_PREFIX: Final = 24  # number of hexadecimal digits
_HAVE_MARKS: Final = TYPES - _UNDECODABLE

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class DerivedImages:
    """Source of thumbnails, which makes and caches them. Each server process has one instance.

    `report` is called with each result: `kept` (it was cached), `made`, `refused` or `failed`.
    """

    def __init__(self, config: DerivedConfig) -> None:
        self.report: Callable[[str], None] = lambda _: None
        self._config = config
        self._cache = DerivedCache(config)
        self._decoders = Decoders(config.processes, max_pixels=config.max_pixels)
        self._fetches = asyncio.Semaphore(_FETCHES)
        self._flights: dict[str, tuple[str, asyncio.Task[bytes]]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._refused: BoundedCache[str, tuple[float, str, bool]] = BoundedCache(_MAX_REFUSED)
        self._marks: BoundedCache[str, bool] = BoundedCache(_MAX_MARKED)
        self._threads = _threads()
        self._encoder = ""

    def place(self, key: StorageKey, derivation: Derivation) -> RemoteImage | None:
        """Return the URL at which the CDN makes a thumbnail, or None if the server must make it.

        The server makes all PNG thumbnails. Without a CDN, the server makes all thumbnails. In the
        options of the CDN, `cover` is called `crop`.
        Options: https://developers.cloudflare.com/images/transform-images/transform-via-url/
        C2PA: https://developers.cloudflare.com/images/optimization/preserve-content-credentials/
        """
        if derivation.format == "png":
            return None
        fit = "crop" if derivation.fit == "cover" else "scale-down"
        options = (
            f"width={derivation.width},height={derivation.height},fit={fit},"
            f"format={derivation.format},quality={derivation.quality},"
            "metadata=copyright,anim=false"  # keeps C2PA manifests if the zone allows it
        )
        return self._cdn_image("image", options, key, derivation.content_type)

    def place_of_frame(self, key: StorageKey, derivation: Derivation) -> RemoteImage | None:
        """Return the URL at which the CDN makes a video's thumbnail, or None if there is no CDN.

        The thumbnail shows the first frame. It is a JPEG or PNG, since the CDN makes no WebP from
        videos: https://developers.cloudflare.com/stream/transform-videos/
        """
        width = min(derivation.width, _MAX_FRAME_SIDE)
        height = min(derivation.height, _MAX_FRAME_SIDE)
        fit = "cover" if derivation.fit == "cover" else "scale-down"
        form, subtype = ("png", "png") if derivation.format == "png" else ("jpg", "jpeg")
        options = f"mode=frame,time=0s,width={width},height={height},fit={fit},format={form}"
        return self._cdn_image("media", options, key, f"image/{subtype}")

    def _cdn_image(
        self, service: str, options: str, key: StorageKey, content_type: str
    ) -> RemoteImage | None:
        if self._config.transformations_url is None:
            return None
        parts = urlsplit(self._config.transformations_url)
        origin = f"{parts.scheme}://{parts.netloc}"
        source = f"{parts.path.rstrip('/')}/{quote(key.text, safe='/')}"
        return RemoteImage(f"{origin}/cdn-cgi/{service}/{options}{source}", content_type)

    async def describe(self, original: OpenedImage, derivation: Derivation) -> StoredImage:
        """Return the properties of a thumbnail that may not exist yet. Its size is set to 0."""
        image = original.image
        if not self._encoder:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                self._encoder = f"{_REVISION} {importlib.metadata.version('pillow')}"
        parts = [self._encoder, image.key.text, image.etag, str(image.size), repr(derivation)]
        if await self._is_marked(original):
            parts.append("marked")  # older versions have cached thumbnails without a mark
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        name = _prefix_of(image.key) + digest[_PREFIX:]
        etag, content_type = f'"{digest[:32]}"', derivation.content_type
        # The save id is also the name of the thumbnail in the cache.
        return replace(
            image, size=0, etag=etag, content_type=content_type, sha256=None, save_id=name
        )

    async def _is_marked(self, original: OpenedImage) -> bool:
        """Return whether the original has an AI mark, which its thumbnail must have, too."""
        if original.image.content_type not in _HAVE_MARKS:
            return False
        source, mark = _source(original.image), None
        has_mark = self._marks.get(source)
        if has_mark is None:
            with contextlib.suppress(TooMuchWork):
                mark = await by_reading(original.image.size, reader_of(original.chunks), find_mark)
            has_mark = mark not in (None, "none")
            self._marks.put(source, has_mark)
        return has_mark

    async def derive(self, original: OpenedImage, derivation: Derivation) -> DerivedImage:
        """Return a thumbnail of `original`, and close `original`. The caller closes the thumbnail.

        Raises:
            UnsupportedMedia: the original cannot be decoded, or exceeds the limits.
            BackendUnavailable: the original cannot be read or decoded at the moment.
        """
        with contextlib.ExitStack() as closing:
            closing.callback(original.close)
            description = await self.describe(original, derivation)
            name = description.save_id
            fd = self._cache.open(name)
            if fd is not None:
                self.report("kept")
                return DerivedImage(replace(description, size=os.fstat(fd).st_size), fd)
            self._raise_if_refused(original.image)
            if name in self._flights:
                _, flight = self._flights[name]
            else:
                flight = self._start(name, original, derivation)
                closing.pop_all()  # the shared task closes the original, even after this request
        picture = await asyncio.shield(flight)
        return DerivedImage(replace(description, size=len(picture)), picture)

    async def forget(self, keys: Collection[StorageKey], _: object) -> None:
        """Delete the cached thumbnails of all images that were stored under these keys."""
        for key in keys:
            await self._in_thread(self._cache.remove, _prefix_of(key))

    def decodes(self, content_type: str) -> bool:
        """Return whether files with this content type can usually be decoded."""
        return content_type.partition(";")[0].strip() not in _UNDECODABLE

    async def dominant_color(self, original: OpenedImage) -> str | None:
        """Return the dominant colour as `#rrggbb`; None if transparent. Leaves `original` open."""
        async with self._decodable(original) as file:
            return await self._decoders.dominant_color(file)

    def _raise_if_refused(self, original: StoredImage) -> None:
        if not self.decodes(original.content_type):
            raise UnsupportedMedia(f"cannot create a thumbnail of {original.content_type}")
        if original.size > _MAX_ORIGINAL_BYTES:
            raise UnsupportedMedia("the file is too large to be decoded")
        until, message, is_cut_off = self._refused.get(_source(original)) or (0.0, "", False)
        if time.monotonic() < until:
            raise UnsupportedMedia(message, is_cut_off=is_cut_off)

    def _start(
        self, name: str, original: OpenedImage, derivation: Derivation
    ) -> "asyncio.Task[bytes]":
        source = _source(original.image)
        waiting = sum(other == source for other, _ in self._flights.values())
        if len(self._flights) >= _MAX_FLIGHTS or waiting >= _MAX_FLIGHTS_OF_ONE:
            raise BackendUnavailable("too many images are waiting to be decoded: try again later")
        flight = asyncio.get_running_loop().create_task(self._make(name, original, derivation))
        self._flights[name] = source, flight
        flight.add_done_callback(lambda done: self._end_flight(name, done))
        return flight

    def _end_flight(self, name: str, flight: "asyncio.Task[bytes]") -> None:
        del self._flights[name]
        error = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if error is not None:
            self.report("refused" if isinstance(error, UnsupportedMedia) else "failed")

    async def _make(self, name: str, original: OpenedImage, derivation: Derivation) -> bytes:
        """Make a thumbnail, unless another process has just added it to the cache."""
        with contextlib.closing(original):
            async with self._lock(_source(original.image)):
                fd = self._cache.open(name)
                if fd is not None:
                    with open(fd, "rb") as file:  # noqa: ASYNC230  (the file is already open)
                        return await self._in_thread(file.read)
                async with self._decodable(original) as original_fd:
                    picture = await self._decoders.derive(original_fd, derivation)
                    if await self._is_marked(original):
                        picture = await self._in_thread(with_ai_mark, picture)
                self.report("made")
                if self._config.cache_bytes:
                    await self._in_thread(self._cache.add, name, picture)
                return picture

    @contextlib.asynccontextmanager
    async def _decodable(self, original: OpenedImage) -> AsyncIterator[int]:
        """Open the file of an original for the block. Remember originals that cannot be decoded."""
        self._raise_if_refused(original.image)
        try:
            async with self._file_of(original) as file:
                yield file
        except UnsupportedMedia as error:
            # Do not store the error: its traceback would keep the original's bytes in memory.
            entry = (time.monotonic() + _REFUSED_FOR_S, str(error), error.is_cut_off)
            self._refused.put(_source(original.image), entry)
            raise
        except OSError as error:  # no space for a temporary copy, or no file descriptor
            raise BackendUnavailable(
                "cannot read the image for decoding: the server has too many open files, or no "
                "temporary space. Try again later"
            ) from error

    @contextlib.asynccontextmanager
    async def _lock(self, source: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(source, asyncio.Lock())
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_TURN_S):
                    await stack.enter_async_context(lock)
                    with contextlib.suppress(OSError):  # without locks, all processes make it
                        while (fd := self._cache.try_lock(source)) is None:  # noqa: ASYNC110  (a file lock cannot be awaited)
                            await asyncio.sleep(_TURN_POLL_S)
                        stack.callback(os.close, fd)
            except TimeoutError:
                message = "the image is being decoded for other requests: try again"
                raise BackendUnavailable(message) from None
            yield

    @contextlib.asynccontextmanager
    async def _file_of(self, original: OpenedImage) -> AsyncIterator[int]:
        if isinstance(original, LocalImage):
            yield original.fileno()
            return
        size = original.image.size
        async with self._fetches:
            fd = await self._in_thread(self._spool, size)
            with open(fd, "wb") as file:  # noqa: ASYNC230  (the file is already open)
                async for piece in original.chunks(0, size):
                    writing = asyncio.ensure_future(self._in_thread(file.write, piece))
                    try:
                        await asyncio.shield(writing)
                    except asyncio.CancelledError:
                        await asyncio.wait([writing])  # closing the file would block until its end
                        raise
                await self._in_thread(file.flush)
                yield fd

    def _spool(self, size: int) -> int:
        folder = self._config.folder
        if size > _KEPT_IN_MEMORY_BYTES:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True, mode=0o750)
                return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return os.memfd_create("original")

    async def _in_thread(self, job: Callable[[*Arguments], T], *args: *Arguments) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, job, *args)

    async def close(self) -> None:
        """Cancel all work and end the decoding processes. The object can be used again."""
        flights = [flight for _, flight in self._flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._decoders.close()
        self._threads.shutdown()
        self._threads = _threads()


def _threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="derived")


def _prefix_of(key: StorageKey) -> str:
    return hashlib.sha256(key.text.encode()).hexdigest()[:_PREFIX]


def _source(original: StoredImage) -> str:
    return hashlib.sha256(f"{original.key.text}\n{original.etag}".encode()).hexdigest()
