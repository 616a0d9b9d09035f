"""Derived images: found in the cache, made once for all who wait, or left to the CDN."""

import asyncio
import concurrent.futures
import contextlib
import functools
import hashlib
import importlib.metadata
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final, ParamSpec, TypeVar
from urllib.parse import quote, urlsplit
from weakref import WeakValueDictionary

from stillroom.bounded_cache import BoundedCache
from stillroom.derived.cache import DerivedCache
from stillroom.derived.config import DerivedConfig
from stillroom.derived.decoders import Decoders
from stillroom.derived.opened import DerivedImage
from stillroom.errors import BackendUnavailable, UnsupportedMedia
from stillroom.generation.ai_mark import TYPES
from stillroom.generation.reading import by_reading, find_mark, reader_of
from stillroom.generation.writing.mark import with_ai_mark
from stillroom.http.derivation import Derivation
from stillroom.paths import StorageKey
from stillroom.storage.values import LocalImage, OpenedImage, RemoteImage, StoredImage
from stillroom.work_budget import TooMuchWork

_REVISION: Final = 1
"""Goes up when the same request is to come out otherwise, with the same Pillow."""

_MAX_ORIGINAL_BYTES: Final = 128 * 1024**2
"""Larger files are not looked at: a hundred megapixels of noise are not larger."""

_KEPT_IN_MEMORY_BYTES: Final = 4 * 1024**2
"""An original from a bucket that is larger waits in a file for its turn to be decoded."""

_MAX_FLIGHTS: Final = 256
"""Pictures that are being made, or wait for that; each holds a descriptor."""

_MAX_FLIGHTS_OF_ONE: Final = 32
"""Of these, pictures of one original, of which one is made at a time."""

_REFUSED_FOR_S: Final = 3600.0
_MAX_REFUSED: Final = 4096
"""Originals that could not be decoded, not to be tried again: the same bytes are no better."""

_MAX_MARKED: Final = 16_384
"""Originals whose mark is remembered; some 4 MiB. Others are read for it, some 0.2 ms on a disk."""

_TURN_POLL_S: Final = 0.02
"""How often is asked whether another process has done with the same original."""

_TURN_S: Final = 20.0
"""For that, and for what this process makes of it; then the client has better asked again."""

_MAX_FRAME_SIDE: Final = 2000
"""Pixels, of what Cloudflare makes of a video."""

_READ_BYTES: Final = 256 * 1024
_FETCHES: Final = 4
"""Originals that come from a bucket at once."""

_UNDECODABLE: Final = frozenset(
    {
        "application/json",
        "application/xml",
        "image/heic",
        "image/jxl",
        "image/svg+xml",
        "image/tiff",
        "image/x-icon",
        "text/html",
        "text/plain",
        "video/mp4",
        "video/quicktime",
        "video/webm",
    }
)
"""Types that we find ourselves, and decode none of; others may be wrong, and are looked into."""

_HAVE_MARKS: Final = TYPES - _UNDECODABLE

P = ParamSpec("P")
T = TypeVar("T")


class DerivedImages:
    """What can be made of stored images. One in each server process."""

    def __init__(
        self, config: DerivedConfig, *, report: Callable[[str], None] = lambda _: None
    ) -> None:
        """Make and keep pictures; no process is started yet.

        Args:
            config: How.
            report: Hears `kept`, `made`, `refused` or `failed` of each.
        """
        self._config = config
        self._report = report
        self._cache = DerivedCache(
            config.folder,
            config.cache_bytes,
            min_free_bytes=config.min_free_bytes,
            durable=config.durable,
        )
        self._decoders = Decoders(config.processes, max_pixels=config.max_pixels)
        self._fetches = asyncio.Semaphore(_FETCHES)
        self._flights: dict[str, asyncio.Task[bytes]] = {}
        self._of_one: Counter[str] = Counter()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._refused: BoundedCache[str, tuple[float, str, bool]] = BoundedCache(_MAX_REFUSED)
        self._marked: BoundedCache[str, bool] = BoundedCache(_MAX_MARKED)
        self._threads = _threads()
        self._maker = ""

    @property
    def decoder_pids(self) -> list[int]:
        """The processes that decode for this one."""
        return self._decoders.pids

    # Elsewhere ---------------------------------------------------------------------------

    def place(self, key: StorageKey, wanted: Derivation) -> RemoteImage | None:
        """Where the CDN makes this picture of an image; None where it does not.

        PNG is no format that it makes, and its `crop` is our `cover`: never larger.
        https://developers.cloudflare.com/images/transform-images/transform-via-url/ and, for
        manifests, https://developers.cloudflare.com/images/optimization/preserve-content-credentials/
        """
        if wanted.format == "png":
            return None
        options = (
            f"width={wanted.width}",
            f"height={wanted.height}",
            f"fit={'crop' if wanted.fit == 'cover' else 'scale-down'}",
            f"format={wanted.format}",
            f"quality={wanted.quality}",
            "metadata=copyright",  # keeps manifests of C2PA where the zone allows it
            "anim=false",
        )
        return self._at_cdn("image", options, key, wanted.content_type)

    def place_of_frame(self, key: StorageKey, wanted: Derivation) -> RemoteImage | None:
        """Where the CDN makes it of the first frame of a video; None where there is no such CDN.

        JPEG stands in for WebP, which it does not make of videos, and sides end at 2,000 pixels.
        https://developers.cloudflare.com/stream/transform-videos/
        """
        form = "png" if wanted.format == "png" else "jpeg"
        options = (
            "mode=frame",
            "time=0s",
            f"width={min(wanted.width, _MAX_FRAME_SIDE)}",
            f"height={min(wanted.height, _MAX_FRAME_SIDE)}",
            f"fit={'cover' if wanted.fit == 'cover' else 'scale-down'}",
            f"format={'png' if form == 'png' else 'jpg'}",
        )
        return self._at_cdn("media", options, key, f"image/{form}")

    def _at_cdn(
        self, service: str, options: Sequence[str], key: StorageKey, content_type: str
    ) -> RemoteImage | None:
        if self._config.transformations_url is None:
            return None
        parts = urlsplit(self._config.transformations_url)
        origin = f"{parts.scheme}://{parts.netloc}"
        source = f"{parts.path.rstrip('/')}/{quote(key.text, safe='/')}"
        return RemoteImage(f"{origin}/cdn-cgi/{service}/{','.join(options)}{source}", content_type)

    # Here --------------------------------------------------------------------------------

    async def describe(self, original: OpenedImage, wanted: Derivation) -> StoredImage:
        """What is known of a picture before it is made: all but its size.

        Raises:
            BackendUnavailable: the original cannot be read.
        """
        name = self._name(original.image, wanted, is_marked=await self._is_marked(original))
        return replace(
            original.image,
            size=0,
            etag=f'"{name[:32]}"',
            content_type=wanted.content_type,
            sha256=None,
            save_id=name,
        )

    async def _is_marked(self, original: OpenedImage) -> bool:
        """Whether the original says that AI made it; so shall each picture of it."""
        if original.image.content_type not in _HAVE_MARKS:
            return False
        source = _source(original.image)
        known = self._marked.get(source)
        if known is None:
            mark = None
            with contextlib.suppress(TooMuchWork):
                mark = await by_reading(original.image.size, reader_of(original), find_mark)
            known = mark not in (None, "none")
            self._marked.put(source, known)
        return known

    async def derive(self, original: OpenedImage, wanted: Derivation) -> DerivedImage:
        """The picture; close it after use. `original` is closed here, in any case.

        Raises:
            UnsupportedMedia: the original cannot be decoded, or not within the limits.
            BackendUnavailable: it cannot be read or decoded now.
        """
        with contextlib.ExitStack() as closing:
            closing.callback(original.close)
            facts = await self.describe(original, wanted)
            name = facts.save_id
            kept = self._cache.open(name)
            if kept is not None:
                self._report("kept")
                return DerivedImage(replace(facts, size=os.fstat(kept).st_size), kept)
            self._refuse(original.image)
            flight = self._flights.get(name)
            if flight is None:
                of_one = self._of_one[_source(original.image)]
                if len(self._flights) >= _MAX_FLIGHTS or of_one >= _MAX_FLIGHTS_OF_ONE:
                    raise BackendUnavailable("too many images wait to be decoded")
                closing.pop_all()  # closed by the shared task, which may outlast this request
                flight = self._start(name, original, wanted)
        picture = await asyncio.shield(flight)
        return DerivedImage(replace(facts, size=len(picture)), picture)

    def decodes(self, content_type: str) -> bool:
        """Whether it is worth trying with images of this type."""
        return content_type.partition(";")[0].strip() not in _UNDECODABLE

    async def dominant_color(self, original: OpenedImage) -> str | None:
        """`#rrggbb` in sRGB, or None for an image that shows nothing; `original` stays open.

        Raises:
            UnsupportedMedia, BackendUnavailable: as `derive`.
        """
        self._refuse(original.image)
        try:
            async with self._file_of(original) as file:
                return await self._decoders.dominant_color(file)
        except UnsupportedMedia as error:
            self._remember(original.image, error)
            raise
        except OSError as error:  # no room for a copy of it, or no descriptor
            raise BackendUnavailable("the image cannot be handed to a decoder") from error

    def _name(self, original: StoredImage, wanted: Derivation, *, is_marked: bool) -> str:
        """The picture's own: what it is made of, how, and by what."""
        if not self._maker:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                self._maker = f"{_REVISION} {importlib.metadata.version('pillow')}"
        parts = [self._maker, original.key.text, original.etag, str(original.size), repr(wanted)]
        if is_marked:
            parts.append("marked")  # so a cache of before holds none of these
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _refuse(self, original: StoredImage) -> None:
        """Raise about what is known not to be decodable."""
        if not self.decodes(original.content_type):
            raise UnsupportedMedia(f"no picture is made of {original.content_type}")
        if original.size > _MAX_ORIGINAL_BYTES:
            raise UnsupportedMedia("the file is too large to be decoded")
        until, why, is_cut_off = self._refused.get(_source(original)) or (0.0, "", False)
        if time.monotonic() < until:
            raise UnsupportedMedia(why, is_cut_off=is_cut_off)

    def _start(self, name: str, original: OpenedImage, wanted: Derivation) -> "asyncio.Task[bytes]":
        flight = asyncio.get_running_loop().create_task(self._make(name, original, wanted))
        self._flights[name] = flight
        source = _source(original.image)
        self._of_one[source] += 1
        flight.add_done_callback(lambda done: self._landed(name, source, done))
        return flight

    def _landed(self, name: str, source: str, flight: "asyncio.Task[bytes]") -> None:
        self._flights.pop(name, None)
        self._of_one[source] -= 1
        if not self._of_one[source]:
            del self._of_one[source]
        error = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if error is not None:
            self._report("refused" if isinstance(error, UnsupportedMedia) else "failed")

    async def _make(self, name: str, original: OpenedImage, wanted: Derivation) -> bytes:
        """Decode, unless another process just has, or found that it cannot be done."""
        with contextlib.closing(original):
            async with self._turn(_source(original.image)):
                self._refuse(original.image)
                kept = self._cache.open(name)
                if kept is not None:
                    with contextlib.closing(DerivedImage(original.image, kept)) as made:
                        size = os.fstat(kept).st_size
                        return b"".join([piece async for piece in made.chunks(0, size)])
                try:
                    async with self._file_of(original) as file:
                        picture = await self._decoders.derive(file, wanted)
                    if await self._is_marked(original):
                        picture = await self._in_thread(with_ai_mark, picture)
                except UnsupportedMedia as error:
                    self._remember(original.image, error)
                    raise
                except OSError as error:  # no room for a copy of it, or no descriptor
                    raise BackendUnavailable("the image cannot be handed to a decoder") from error
                self._report("made")
                if self._config.cache_bytes:
                    await self._in_thread(self._cache.keep, name, picture)
                return picture

    def _remember(self, original: StoredImage, why: UnsupportedMedia) -> None:
        """Refuse what is asked for of this original from here on."""
        # Not the error itself: by its traceback it would keep the original's bytes.
        refused = (time.monotonic() + _REFUSED_FOR_S, str(why), why.is_cut_off)
        self._refused.put(_source(original), refused)

    @contextlib.asynccontextmanager
    async def _turn(self, source: str) -> AsyncIterator[None]:
        """While nothing else, in any process, is made of this original.

        Raises:
            BackendUnavailable: that took too long.
        """
        lock = self._turns.setdefault(source, asyncio.Lock())
        fd: int | None = None
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(_TURN_S):
                    await held.enter_async_context(lock)
                    with contextlib.suppress(OSError):  # then each process makes its own
                        while (fd := self._cache.turn(source)) is None:  # noqa: ASYNC110  (a lock of other processes tells nothing)
                            await asyncio.sleep(_TURN_POLL_S)
            except TimeoutError:
                why = "the image is being decoded for others: ask again"
                raise BackendUnavailable(why) from None
            if fd is not None:
                held.callback(os.close, fd)
            yield

    @contextlib.asynccontextmanager
    async def _file_of(self, original: OpenedImage) -> AsyncIterator[int]:
        """The original as an open file, wherever it lies."""
        if isinstance(original, LocalImage):
            yield original.fileno()
            return
        size = original.image.size
        async with self._fetches:
            file = await self._in_thread(self._spool, size)
            try:
                async for piece in original.chunks(0, size):
                    await self._in_thread(_write, file, piece)
                yield file
            finally:
                os.close(file)

    def _spool(self, size: int) -> int:
        """A file that is gone when it is closed: on the disk where it is large, else in memory."""
        if size > _KEPT_IN_MEMORY_BYTES:
            with contextlib.suppress(OSError):
                self._config.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
                return os.open(self._config.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return os.memfd_create("original")

    async def _in_thread(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(job, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def close(self) -> None:
        """Give up what is being made, and end the processes; it may be used again."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._decoders.close()
        self._threads.shutdown()
        self._threads = _threads()


def _threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="derived")


def _source(original: StoredImage) -> str:
    """An original's own name: its key and the bytes that it has now."""
    return hashlib.sha256(f"{original.key.text}\n{original.etag}".encode()).hexdigest()


def _write(file: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(file, rest) :]
