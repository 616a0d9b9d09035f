"""What may be saved: bytes, a file, a path, a Pillow image or an array, made ready to send."""

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from stillroom.client.encoding import ArrayLike, Encoding, PillowImage, encoded, image_of
from stillroom.errors import DigestMismatch, InvalidPath
from stillroom.generation.facts import Generation
from stillroom.generation.writing.embed import with_generation
from stillroom.generation.writing.mark import with_ai_mark
from stillroom.paths import ImagePath

CHUNK_BYTES: Final = 256 * 1024
"""Read, hashed and sent in one go."""

SPOOL_BYTES: Final = 16 * 1024**2
"""More than this of a stream waits in an unnamed temporary file, not in memory."""

_SHOWN: Final = 100
"""Characters of a wrong path that an error shows."""


Source = bytes | bytearray | memoryview | Path | IO[bytes] | PillowImage | ArrayLike
"""What may be saved."""

Facts = Generation | Mapping[str, Any]
"""How an image was made, by the names of `Generation`."""


@dataclass(frozen=True, slots=True)
class ImagePayload:
    """The bytes of one image, ready to be sent as often as needed.

    Attributes:
        size: Bytes.
        sha256: 32 bytes.
    """

    size: int
    sha256: bytes
    _file: IO[bytes]
    _start: int

    def chunks(self) -> Iterator[bytes]:
        """All of it from the beginning.

        Raises:
            DigestMismatch: the file has become shorter since it was hashed.
        """
        self._file.seek(self._start)
        left = self.size
        while left:
            chunk = self._file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise DigestMismatch("the file has become shorter while it was sent")
            left -= len(chunk)
            yield chunk


def named(path: object) -> ImagePath:
    """The path of an image, as a caller gives it.

    Raises:
        InvalidPath: it is none; the message names it.
        TypeError: it is no text.
    """
    if not isinstance(path, str):
        raise TypeError(
            f"the path of an image is a str such as 'cats/1.png', not a {type(path).__name__}: "
            "is the order of the arguments right? The path in the store comes first"
        )
    try:
        return ImagePath.parse(path)
    except InvalidPath as error:
        error.args = (f"{path[:_SHOWN]!r}: {error}",)
        raise


@contextlib.contextmanager
def opened(
    source: Source,
    path: ImagePath,
    generation: Facts | None = None,
    *,
    ai_generated: bool = False,
    encoding: Encoding | None = None,
) -> Iterator[ImagePayload]:
    """Hash `source` in one pass, and keep it at hand.

    Args:
        source: A file is read from where it stands. One that cannot be rewound is
            kept in a temporary file, so that sending it can be tried again.
        path: Where it will be saved; its suffix says how an image or array is encoded.
        generation: Put into the image itself, which is held in memory for that.
        ai_generated: Likewise the mark that says that AI made it, unless it has one.
        encoding: Of an image or array.

    Raises:
        UnsupportedMedia: an image or array that cannot be encoded like this, or an image of a
            format that takes no facts or no mark.
        InvalidParameter: `generation` has something else than facts, or the image says that it has
            another source.
        OSError: the file cannot be read.
        TypeError: it is something else, or a file in text mode.
    """
    with contextlib.ExitStack() as stack:
        file = _file_of(source, path, stack, encoding or {})
        if generation is not None:
            file = io.BytesIO(with_generation(file.read(), generation))
        if ai_generated:
            file = io.BytesIO(with_ai_mark(file.read()))
        if not file.seekable():
            file = stack.enter_context(_spooled(file))
        start = file.tell()
        digest, size = hashlib.sha256(), 0
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        yield ImagePayload(size, digest.digest(), file, start)


def is_same(file: Path, *, size: int, sha256: str | None, ai_generated: bool = False) -> bool:
    """Whether a file has these bytes already; of an unknown hash nothing is the same.

    With `ai_generated`: whether it would have them, marked.
    """
    if sha256 is None or not file.is_file():
        return False
    if file.stat().st_size != size and not ai_generated:
        return False
    with opened(file, ImagePath(file.name), ai_generated=ai_generated) as upload:
        return upload.sha256.hex() == sha256


def _file_of(
    source: Source, path: ImagePath, stack: contextlib.ExitStack, encoding: Encoding
) -> IO[bytes]:
    if isinstance(source, PillowImage):
        return encoded(source, path, encoding)
    if isinstance(source, ArrayLike):
        return encoded(image_of(source), path, encoding)
    if encoding:
        raise TypeError(
            f"{', '.join(sorted(encoding))}: only images and arrays are encoded, and a "
            f"{type(source).__name__} is saved as it is"
        )
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, Path):
        return stack.enter_context(source.open("rb"))
    return _binary(source)


def _binary(source: Any) -> IO[bytes]:  # noqa: ANN401  (what a caller without a type checker gives)
    if isinstance(source, str):
        raise TypeError("a file to save is named by a pathlib.Path: give Path('…'), not a str")
    if hasattr(source, "__array__"):  # a tensor of torch, which no array interface shows
        raise TypeError(
            f"cannot save a {type(source).__name__}: if 0 is black and 1 is white, save "
            "stillroom.client.from_float(tensor), which takes channels first, too"
        )
    if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        raise TypeError(f"cannot save a {type(source).__name__}: open the file with 'rb'")
    return cast("IO[bytes]", source)


def _spooled(stream: IO[bytes]) -> IO[bytes]:
    spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  (the caller closes it)
    try:
        while chunk := stream.read(CHUNK_BYTES):
            spool.write(chunk)
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return cast("IO[bytes]", spool)
