"""What may be saved: bytes, a file, a path, a Pillow image or an array, made ready to send."""

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast, runtime_checkable

from stillroom.errors import DigestMismatch, InvalidPath, UnsupportedMedia
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


@runtime_checkable
class PillowImage(Protocol):
    """A `PIL.Image.Image`, which this package does not need to be installed."""

    @property
    def mode(self) -> str:
        """How its pixels are stored, such as `RGB`."""

    @property
    def format(self) -> str | None:
        """Of the file it was read from, if any."""

    def save(self, fp: IO[bytes], /, format: str | None = None) -> None:  # noqa: A002  (Pillow's name)
        """Write it in a format."""


@runtime_checkable
class ArrayLike(Protocol):
    """A `numpy.ndarray` or whatever shows its memory like one."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """https://numpy.org/doc/stable/reference/arrays.interface.html."""


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
) -> Iterator[ImagePayload]:
    """Hash `source` in one pass, and keep it at hand.

    Args:
        source: A file is read from where it stands. One that cannot be rewound is
            kept in a temporary file, so that sending it can be tried again.
        path: Where it will be saved; its suffix says how an image or array is encoded.
        generation: Put into the image itself, which is held in memory for that.
        ai_generated: Likewise the mark that says that AI made it, unless it has one.

    Raises:
        UnsupportedMedia: an image or array that cannot be encoded like this, or an image of a
            format that takes no facts or no mark.
        InvalidParameter: `generation` has something else than facts, or the image says that it has
            another source.
        OSError: the file cannot be read.
        TypeError: it is something else, or a file in text mode.
    """
    with contextlib.ExitStack() as stack:
        file = _file_of(source, path, stack)
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


def _file_of(source: Source, path: ImagePath, stack: contextlib.ExitStack) -> IO[bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, Path):
        return stack.enter_context(source.open("rb"))
    if isinstance(source, PillowImage):
        return _encoded(source, path)
    if isinstance(source, ArrayLike):
        return _encoded(_image_of(source), path)
    return _binary(source)


def _binary(source: Any) -> IO[bytes]:  # noqa: ANN401  (what a caller without a type checker gives)
    if isinstance(source, str):
        raise TypeError("a file to save is named by a pathlib.Path: give Path('…'), not a str")
    if hasattr(source, "__array__"):  # a tensor of torch, which no array interface shows
        raise TypeError(
            f"cannot save a {type(source).__name__}: make it a NumPy array of uint8 in (height, "
            "width, 3), such as (tensor.clamp(0, 1) * 255).byte().permute(1, 2, 0).cpu().numpy()"
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


def _image_of(array: ArrayLike) -> PillowImage:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise TypeError("an array is encoded by Pillow: pip install pillow") from None
    kind = array.__array_interface__["typestr"]
    if kind != "|u1":
        # Refused, not scaled: whether floats mean 0 to 1 or 0 to 255 only the caller knows.
        raise UnsupportedMedia(f"the array is of {kind}, not uint8: scale it to 0 to 255 first")
    shape = array.__array_interface__["shape"]
    try:
        return Image.fromarray(array)
    except (TypeError, ValueError) as error:
        raise UnsupportedMedia(
            f"an array of shape {shape} is no image: (height, width) or (height, width, 3 or 4)"
        ) from error


def _encoded(image: PillowImage, path: ImagePath) -> IO[bytes]:
    from PIL import Image

    suffix = Path(path.text).suffix.lower()
    known = Image.registered_extensions()
    kind = known.get(suffix) if suffix else image.format or "PNG"
    if kind is None or kind not in Image.SAVE:
        raise UnsupportedMedia(f"Pillow writes no {suffix or kind}: name it .png, .webp or .jpg")
    file = io.BytesIO()
    try:
        image.save(file, format=kind)
    except (OSError, ValueError) as error:
        if kind == "JPEG" and image.mode != "RGB":
            raise UnsupportedMedia(
                f"JPEG takes no {image.mode}: pass image.convert('RGB'), or name it .png or .webp"
            ) from error
        raise UnsupportedMedia(f"cannot be written as {kind}: {error}") from error
    file.seek(0)
    return file
