"""Functions that encode Pillow images and arrays as image files."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypedDict, runtime_checkable

from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.formats.work_budget import TooMuchWork, WorkBudget
from stillroom.generation.reading import interpret
from stillroom.generation.tools import novelai, own
from stillroom.generation.writing.embed import with_generation
from stillroom.paths import ImagePath


@runtime_checkable
class PillowImage(Protocol):
    """Protocol of `PIL.Image.Image`, because Pillow is an optional dependency."""

    @property
    def mode(self) -> str:
        """Pixel format, such as `RGB`."""

    @property
    def format(self) -> str | None:
        """Format of the file from which the image was read, or None."""

    def save(self, fp: IO[bytes], /, format: str | None = None) -> None:  # noqa: A002  (Pillow's name)
        """Encode the image and write it to the open file `fp`."""


@runtime_checkable
class ArrayLike(Protocol):
    """Protocol of `numpy.ndarray` and other objects that have NumPy's array interface."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Array interface (https://numpy.org/doc/stable/reference/arrays.interface.html)."""


class Encoding(TypedDict, total=False):
    """Options for encoding Pillow images and arrays. Bytes and files are saved unchanged.

    Attributes:
        pnginfo: Texts for a PNG: a `PIL.PngImagePlugin.PngInfo` or a dict.
        quality: Quality from 1 to 100.
        lossless: True for a lossless WebP.
        keep_info: True to copy EXIF, XMP and (to a PNG) all texts from `image.info`, and False to
            copy nothing. By default, only generation parameters are copied.
    """

    pnginfo: Any
    quality: int
    lossless: bool
    icc_profile: bytes | None
    exif: bytes
    keep_info: bool | None


_OVERSHOT: Final = 2.0
"""Highest float that is accepted. Models may exceed white (1.0), but rarely exceed this."""

_UNDERSHOT: Final = -0.05
"""Lowest float that is accepted. Models may go below black (0.0), but rarely below this."""

_GENERATION_TEXTS: Final = {
    *("parameters", "prompt", "workflow", "fooocus_scheme", "generation_data", own.KEY),
    *("invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata", "Dream"),
}
"""Keywords of PNG texts in which tools store generation parameters; see `generation/tools`."""

_TAKEN: Final = {
    "PNG": {"pnginfo", "icc_profile", "exif"},
    "JPEG": {"quality", "icc_profile", "exif", "xmp"},
    "WEBP": {"quality", "lossless", "icc_profile", "exif", "xmp"},
    "AVIF": {"quality", "icc_profile", "exif", "xmp"},
}
_OPTIONS: Final = {"keep_info"}.union(*_TAKEN.values())
_XMP: Final = "XML:com.adobe.xmp"


def encoded(image: PillowImage, path: ImagePath, options: Encoding) -> IO[bytes]:
    """Encode an image in the path's format. If `path` has no suffix, use `image.format` or PNG."""
    from PIL import Image

    suffix = Path(path.text).suffix.lower()
    kinds = Image.registered_extensions()  # also loads all formats into `Image.SAVE`
    kind = kinds.get(suffix) if suffix else image.format or "PNG"
    if kind is None or kind not in Image.SAVE:
        raise UnsupportedMedia(f"Pillow cannot write {suffix or kind}: use .png, .webp or .jpg")
    arguments = _save_arguments(image, kind, options)
    file = io.BytesIO()
    try:
        image.save(file, format=kind, **arguments)
    except (OSError, ValueError) as error:
        if kind == "JPEG" and image.mode != "RGB":
            raise UnsupportedMedia(
                f"JPEG cannot store the mode {image.mode}: pass image.convert('RGB'), or use .png "
                "or .webp"
            ) from error
        quality = arguments.get("quality")
        if isinstance(quality, int) and not 0 <= quality <= 100:
            raise UnsupportedMedia(f"quality is {quality}: use 0 to 100") from error
        raise UnsupportedMedia(f"the image cannot be written as {kind}: {error}") from error
    if kind != "PNG" and options.get("keep_info") is None and (texts := _generation_texts(image)):
        return io.BytesIO(_with_facts(file.getvalue(), texts))
    file.seek(0)
    return file


def image_of(array: ArrayLike) -> PillowImage:
    """Convert a uint8 array to a Pillow image."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise TypeError("Pillow is needed to encode an array: pip install pillow") from None
    kind = array.__array_interface__["typestr"]
    if kind != "|u1":
        # Floats are not scaled: only the caller knows if they range from 0 to 1 or to 255.
        raise UnsupportedMedia(
            f"the array has the type {kind} instead of uint8: if 0 is black and 1 is white, "
            "save stillroom.client.from_float(array), else scale it to the range 0 to 255 first"
        )
    shape = array.__array_interface__["shape"]
    try:
        return Image.fromarray(array)
    except (TypeError, ValueError) as error:
        raise UnsupportedMedia(
            f"the array has the shape {shape} instead of (height, width) or (height, width, 3 or 4)"
        ) from error


def from_float(array: Any) -> Any:  # noqa: ANN401  (arrays of packages that need not be installed)
    """Convert an array of floats from 0 (black) to 1 (white) to a uint8 array that can be saved.

    `array` can be anything that `numpy.asarray` accepts, or a torch tensor on any device. Channels
    may be last, as in (height, width, 3), or first, as in torch. A batch of one image is accepted.
    Values slightly below 0 or above 1 are clipped, because models produce them.

    Raises:
        UnsupportedMedia: The type or shape is not supported, or a value is NaN or far above 1.
        ValueError: A value is far below 0, as in an array that ranges from -1 to 1.
        TypeError: NumPy is not installed.
    """
    try:
        import numpy as np
    except ModuleNotFoundError:
        raise TypeError("NumPy is needed to scale floats: pip install numpy") from None
    if hasattr(array, "detach"):  # a tensor
        array = array.detach().cpu().float().numpy()
    floats = np.asarray(array)
    if floats.dtype.kind != "f":
        raise UnsupportedMedia(
            f"the array has the type {floats.dtype} instead of a float type: save it without "
            "from_float"
        )
    if floats.ndim == 4 and floats.shape[0] == 1:
        floats = floats[0]
    if floats.ndim == 4:
        raise UnsupportedMedia(
            f"an array of shape {floats.shape} contains {floats.shape[0]} images: save them one "
            "by one, in a loop such as `for number, image in enumerate(batch)`"
        )
    if floats.ndim == 3 and floats.shape[-1] not in (1, 3, 4) and floats.shape[0] in (1, 3, 4):
        floats = np.moveaxis(floats, 0, -1)
    if floats.ndim == 3 and floats.shape[-1] == 1:
        floats = floats[..., 0]
    if not np.isfinite(floats).all():
        raise UnsupportedMedia("the array contains NaN or infinity: check the output of the model")
    if floats.size:
        _check_range(float(floats.min()), float(floats.max()))
    return np.ascontiguousarray((floats.clip(0, 1) * 255).round().astype(np.uint8))


def _check_range(lowest: float, highest: float) -> None:
    if highest > _OVERSHOT:  # clipping would produce a white image
        raise UnsupportedMedia(
            f"the array has values up to {highest:g}, but 1 is white: divide it by 255 first"
        )
    if lowest < _UNDERSHOT:  # clipping would make half of the image black
        raise ValueError(
            f"the array has values down to {lowest:g}, but 0 is black: if it ranges from -1 to "
            "1, save from_float((x + 1) / 2), else set negative values to 0 first"
        )


def _save_arguments(image: PillowImage, kind: str, options: Encoding) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if unknown := sorted(options.keys() - _OPTIONS):
        raise UnsupportedMedia(f"unknown option {unknown[0]}: use {', '.join(sorted(_OPTIONS))}")
    if options.get("keep_info"):
        arguments = _collect_info(image, kind)
    elif options.get("keep_info") is None and kind == "PNG":
        arguments = {"pnginfo": _generation_texts(image) or None}
    arguments |= options
    omitted = {"keep_info"} | ({"lossless"} if arguments.get("lossless") is False else set())
    omitted |= {"quality", "lossless"} if kind == "PNG" else set()  # always lossless, as in Pillow
    omitted |= {name for name, value in arguments.items() if value is None}
    arguments = {name: arguments[name] for name in arguments.keys() - omitted}
    if refused := sorted(arguments.keys() - _TAKEN.get(kind, set())):
        raise UnsupportedMedia(
            f"{kind} images do not support {' or '.join(refused)}: omit the option, or use a path "
            f"that ends with {'.png' if 'pnginfo' in refused else '.webp'}"
        )
    if isinstance(arguments.get("pnginfo"), dict):
        arguments["pnginfo"] = _texts(arguments["pnginfo"])
    return arguments


def _collect_info(image: PillowImage, kind: str) -> dict[str, Any]:
    info: dict[str, Any] = getattr(image, "info", {})
    texts = {name: value for name, value in info.items() if isinstance(value, str)}
    kept: dict[str, Any] = {
        name: info[name] for name in ("exif", "xmp") if isinstance(info.get(name), bytes)
    }
    if kind == "PNG" and "xmp" in kept:
        texts[_XMP] = kept.pop("xmp").decode("utf-8", "replace")
    return kept | ({"pnginfo": texts} if texts else {})


def _generation_texts(image: PillowImage) -> dict[str, str]:
    info: dict[str, Any] = getattr(image, "info", {})
    names = _GENERATION_TEXTS
    if info.get("Software") == novelai.TOOL:  # other programs use the same keywords
        names = names.union(novelai.FIELDS)
    return {name: text for name, text in info.items() if name in names and isinstance(text, str)}


def _with_facts(data: bytes, texts: dict[str, str]) -> bytes:
    """Embed the generation parameters from PNG texts in an image, if its format supports them."""
    with contextlib.suppress(TooMuchWork):
        if (generation := interpret(texts, WorkBudget()).generation) is not None:
            for facts in (generation, replace(generation, raw=None)):  # too large for some JPEGs
                with contextlib.suppress(InvalidParameter, UnsupportedMedia):
                    return with_generation(data, facts)
    return data


def _texts(texts: dict[str, Any]) -> Any:  # noqa: ANN401  (Pillow's `PngInfo`)
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, text in texts.items():
        is_plain = str(text).isascii() and name not in (_XMP, own.KEY)
        (info.add_text if is_plain else info.add_itxt)(name, str(text))
    return info
