"""Preparation of images for sending: bytes, files, Pillow images and arrays."""

import contextlib
import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from stillroom.client.encoding import ArrayLike, Encoding, PillowImage, encoded, image_of
from stillroom.errors import DigestMismatch, EmptyFile, InvalidPath
from stillroom.generation.writing.embed import with_generation
from stillroom.generation.writing.mark import with_ai_mark
from stillroom.paths import ImagePath
from stillroom.wire.generation import Generation
from stillroom.wire.images import ImageInfo

CHUNK_BYTES: Final = 256 * 1024  # size of the chunks that are read, hashed and sent

Source = bytes | bytearray | memoryview | Path | IO[bytes] | PillowImage | ArrayLike
"""Types of images that can be saved."""

Facts = Generation | Mapping[str, Any]
"""Generation parameters: a `Generation` or a mapping with the same field names."""


@dataclass(frozen=True, slots=True)
class ImagePayload:
    """Bytes of an image that can be sent several times."""

    size: int
    sha256: bytes
    _file: IO[bytes]
    _start: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in chunks. Raise `DigestMismatch` if the file became shorter."""
        self._file.seek(self._start)
        left = self.size
        while left:
            chunk = self._file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise DigestMismatch("the file became shorter while it was sent: save it again")
            left -= len(chunk)
            yield chunk


def spool() -> IO[bytes]:
    """Return a temporary file that is in memory up to 16 MiB, and on disk if it is larger."""
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=16 * 1024**2))


@contextlib.contextmanager
def filled_spool() -> Iterator[IO[bytes]]:
    """Context manager: yield a temporary file that is rewound at the end, or closed on error."""
    file = spool()
    try:
        yield file
    except BaseException:
        file.close()
        raise
    file.seek(0)


def named(path: object) -> ImagePath:
    """Parse a path from the caller of the SDK. The message of `InvalidPath` contains the path."""
    if not isinstance(path, str):
        raise TypeError(
            f"the path must be a str such as 'cats/1.png', not a {type(path).__name__}: pass "
            "the path in the store first, then the image"
        )
    try:
        return ImagePath.parse(path)
    except InvalidPath as error:
        error.args = (f"{path[:100]!r}: {error}",)
        raise


@contextlib.contextmanager
def opened(
    source: Source,
    path: ImagePath,
    generation: Facts | None = None,
    encoding: Encoding | None = None,
    *,
    ai_generated: bool = False,
) -> Iterator[ImagePayload]:
    """Context manager: prepare an image for sending, and yield its payload.

    See `ImageStore.save` for the arguments. A file that is not seekable is buffered, so that it can
    be sent again. With `generation` or `ai_generated`, the image is read into memory.

    Raises:
        EmptyFile: The image has no bytes to which metadata can be added.
        UnsupportedMedia: The image cannot be encoded, or its format cannot contain the metadata.
        InvalidParameter: `generation` is invalid, or the image's XMP names a source other than AI.
        OSError: The file cannot be read.
        TypeError: The type of the source is not supported, or the source is a file in text mode.
    """
    with contextlib.ExitStack() as stack:
        file = _file_of(source, path, stack, encoding or {})
        if generation is not None or ai_generated:
            data = file.read()
            if not data:
                raise EmptyFile
            data = data if generation is None else with_generation(data, generation)
            file = io.BytesIO(with_ai_mark(data) if ai_generated else data)
        if not file.seekable():
            buffered = stack.enter_context(spool())
            shutil.copyfileobj(file, buffered, CHUNK_BYTES)
            buffered.seek(0)
            file = buffered
        start = file.tell()
        digest, size = hashlib.sha256(), 0
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        yield ImagePayload(size, digest.digest(), file, start)


def is_same(file: Path, stored: ImageInfo | None, *, ai_generated: bool = False) -> bool:
    """Return whether `file`, with an AI mark if `ai_generated`, is identical to a stored image."""
    if stored is None or stored.sha256 is None or not file.is_file():
        return False
    if file.stat().st_size != stored.size and not ai_generated:
        return False
    with opened(file, ImagePath(file.name), ai_generated=ai_generated) as upload:
        return upload.sha256.hex() == stored.sha256


def _file_of(
    source: Source, path: ImagePath, stack: contextlib.ExitStack, encoding: Encoding
) -> IO[bytes]:
    if isinstance(source, PillowImage):
        return encoded(source, path, encoding)
    if isinstance(source, ArrayLike):
        return encoded(image_of(source), path, encoding)
    if encoding:
        raise TypeError(
            f"{', '.join(sorted(encoding))}: omit these options, which apply only to Pillow "
            f"images and arrays, since a {type(source).__name__} is saved unchanged"
        )
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, Path):
        return stack.enter_context(source.open("rb"))
    return _binary(source)


def _binary(source: Any) -> IO[bytes]:  # noqa: ANN401  (callers may not use a type checker)
    if isinstance(source, str):
        raise TypeError("cannot save a str: pass pathlib.Path('…') to save a file")
    if hasattr(source, "__array__"):  # a torch tensor, which has no array interface
        raise TypeError(
            f"cannot save a {type(source).__name__}: if its values are 0 (black) to 1 (white), "
            "save stillroom.client.from_float(tensor), with channels first or last"
        )
    if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        raise TypeError(f"cannot save a {type(source).__name__}: open the file with 'rb'")
    return cast("IO[bytes]", source)
