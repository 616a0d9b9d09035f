"""Pillow images and arrays made into the bytes of a file."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypedDict, runtime_checkable

from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.generation.reading import interpret
from stillroom.generation.tools import novelai, own
from stillroom.generation.writing.embed import with_generation
from stillroom.paths import ImagePath
from stillroom.work_budget import TooMuchWork, WorkBudget


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


class Encoding(TypedDict, total=False):
    """How an image or array is encoded; bytes and files are saved as they are.

    `pnginfo` is a `PIL.PngImagePlugin.PngInfo`, or texts by their names. `quality` is 1 to 100.
    `lossless` is for WebP. A PNG keeps the generation texts of `image.info`, such as `parameters`;
    other formats keep the facts in them. `keep_info=True` keeps all texts (of a PNG), EXIF and XMP,
    and `keep_info=False` nothing.
    """

    pnginfo: Any
    quality: int
    lossless: bool
    icc_profile: bytes | None
    exif: bytes
    keep_info: bool | None


_OVERSHOT: Final = 2.0
"""More than decoders overshoot white, which is 1, and less than any picture that counts to 255."""

_UNDERSHOT: Final = -0.05
"""Less than decoders undershoot black, which is 0, and more than the shadows from -1 on."""

_GENERATION_TEXTS: Final = {
    *("parameters", "prompt", "workflow", "fooocus_scheme", "generation_data", own.KEY),
    *("invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata", "Dream"),
}
"""Keywords of a PNG under which tools write how they made it; `generation/tools` reads them."""

_TAKEN: Final = {
    "PNG": {"pnginfo", "icc_profile", "exif"},
    "JPEG": {"quality", "icc_profile", "exif", "xmp"},
    "WEBP": {"quality", "lossless", "icc_profile", "exif", "xmp"},
    "AVIF": {"quality", "icc_profile", "exif", "xmp"},
}
_WITHOUT_MEANING: Final = {"PNG": {"quality", "lossless"}}
"""A PNG is lossless; Pillow passes over them, too."""


def encoded(image: PillowImage, path: ImagePath, options: Encoding) -> IO[bytes]:
    """The bytes of an image, in the format of the path's suffix; of its own, or PNG, without one.

    Raises:
        UnsupportedMedia: it cannot be encoded like this.
    """
    from PIL import Image

    suffix = Path(path.text).suffix.lower()
    known = Image.registered_extensions()
    kind = known.get(suffix) if suffix else image.format or "PNG"
    if kind is None or kind not in Image.SAVE:
        raise UnsupportedMedia(f"Pillow writes no {suffix or kind}: name it .png, .webp or .jpg")
    given = _given(image, kind, options)
    file = io.BytesIO()
    try:
        image.save(file, format=kind, **given)
    except (OSError, ValueError) as error:
        if kind == "JPEG" and image.mode != "RGB":
            raise UnsupportedMedia(
                f"JPEG takes no {image.mode}: pass image.convert('RGB'), or name it .png or .webp"
            ) from error
        raise UnsupportedMedia(f"cannot be written as {kind}: {error}") from error
    if kind != "PNG" and options.get("keep_info") is None and (texts := _generation_texts(image)):
        return io.BytesIO(_with_facts(file.getvalue(), texts))
    file.seek(0)
    return file


def image_of(array: ArrayLike) -> PillowImage:
    """An array of uint8 as an image.

    Raises:
        UnsupportedMedia: it is of another type or shape.
        TypeError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise TypeError("an array is encoded by Pillow: pip install pillow") from None
    kind = array.__array_interface__["typestr"]
    if kind != "|u1":
        # Refused, not scaled: whether floats mean 0 to 1 or 0 to 255 only the caller knows.
        raise UnsupportedMedia(
            f"the array is of {kind}, not uint8: if 0 is black and 1 is white, save "
            "stillroom.client.from_float(array), else scale it to 0 to 255 first"
        )
    shape = array.__array_interface__["shape"]
    try:
        return Image.fromarray(array)
    except (TypeError, ValueError) as error:
        raise UnsupportedMedia(
            f"an array of shape {shape} is no image: (height, width) or (height, width, 3 or 4)"
        ) from error


def from_float(array: Any) -> Any:  # noqa: ANN401  (arrays of packages that need not be installed)
    """Floats from 0 (black) to 1 (white) as an array of uint8 that can be saved.

    Takes what NumPy can read, and tensors of torch on any device, with gradients or in bfloat16.
    Channels may come first or last: (3, height, width) or (height, width, 3), of which the
    former is what torch has. A batch of one is taken for its only image. What is a little beyond 0
    and 1 is clipped, as decoders overshoot; NaN is refused, and so is what counts to 255.

    Raises:
        UnsupportedMedia: it is no such array.
        ValueError: it has values below 0, such as those of a decoder whose black is -1.
        TypeError: NumPy is not installed.
    """
    try:
        import numpy as np
    except ModuleNotFoundError:
        raise TypeError("floats are scaled by NumPy: pip install numpy") from None
    if hasattr(array, "detach"):  # a tensor
        array = array.detach().cpu().float().numpy()
    found = np.asarray(array)
    if found.dtype.kind != "f":
        raise UnsupportedMedia(f"the array is of {found.dtype}, not of floats: save it as it is")
    if found.ndim == 4 and found.shape[0] == 1:
        found = found[0]
    if found.ndim == 4:
        raise UnsupportedMedia(
            f"an array of shape {found.shape} is {found.shape[0]} images: save them one by one, "
            "such as `for number, image in enumerate(batch)`"
        )
    if found.ndim == 3 and found.shape[-1] not in (1, 3, 4) and found.shape[0] in (1, 3, 4):
        found = np.moveaxis(found, 0, -1)
    if found.ndim == 3 and found.shape[-1] == 1:
        found = found[..., 0]
    if not np.isfinite(found).all():
        raise UnsupportedMedia("the array has NaN or infinity in it: the model has failed")
    if found.size:
        _check_range(float(found.min()), float(found.max()))
    return np.ascontiguousarray((found.clip(0, 1) * 255).round().astype(np.uint8))


def _check_range(lowest: float, highest: float) -> None:
    if highest > _OVERSHOT:  # clipped, it would be a white picture
        raise UnsupportedMedia(
            f"the array has values up to {highest:g}, and 1 is white: divide it by 255 first"
        )
    if lowest < _UNDERSHOT:  # clipped, half of the picture would be black
        raise ValueError(
            f"the array has values down to {lowest:g}, and 0 is black: if it goes from -1 to 1, "
            "save from_float((x + 1) / 2), else clip it to 0 first"
        )


def _given(image: PillowImage, kind: str, options: Encoding) -> dict[str, Any]:
    """What Pillow is given.

    Raises:
        UnsupportedMedia: the format has no place for it.
    """
    given: dict[str, Any] = {}
    if options.get("keep_info"):
        given = _kept(image, kind)
    elif options.get("keep_info") is None and kind == "PNG":
        given = {"pnginfo": _generation_texts(image) or None}
    given |= {name: value for name, value in options.items() if name != "keep_info"}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given.keys() & _WITHOUT_MEANING.get(kind, set()):
        del given[name]
    if given.get("lossless") is False:
        del given["lossless"]
    if refused := sorted(given.keys() - _TAKEN.get(kind, set())):
        raise UnsupportedMedia(
            f"{kind} takes no {' and no '.join(refused)}: name the image "
            f"{'.png' if 'pnginfo' in refused else '.webp'}"
        )
    if isinstance(given.get("pnginfo"), dict):
        given["pnginfo"] = _texts(given["pnginfo"])
    return given


def _kept(image: PillowImage, kind: str) -> dict[str, Any]:
    info: dict[str, Any] = getattr(image, "info", {})
    texts = {name: value for name, value in info.items() if isinstance(value, str)}
    kept: dict[str, Any] = {"pnginfo": texts} if texts else {}
    if isinstance(info.get("exif"), bytes):
        kept["exif"] = info["exif"]
    xmp = info.get("xmp")
    if isinstance(xmp, bytes):
        if kind == "PNG":
            name = "XML:com.adobe.xmp"
            kept["pnginfo"] = {**texts, name: xmp.decode("utf-8", "replace")}
        else:
            kept["xmp"] = xmp
    return kept


def _generation_texts(image: PillowImage) -> dict[str, str]:
    info: dict[str, Any] = getattr(image, "info", {})
    names = _GENERATION_TEXTS
    if info.get("Software") == novelai.TOOL:  # its other names are those of any PNG
        names = names.union(novelai.FIELDS)
    return {name: text for name, text in info.items() if name in names and isinstance(text, str)}


def _with_facts(data: bytes, texts: dict[str, str]) -> bytes:
    """The image with the facts in texts of a PNG, without `raw` if there is no room for that.

    The image stays as it is if there are none, or if the format has no place for them.
    """
    try:
        found = interpret(texts, WorkBudget()).generation
    except TooMuchWork:
        found = None
    for facts in (found, found and replace(found, raw=None)):
        if facts is not None:
            with contextlib.suppress(InvalidParameter, UnsupportedMedia):
                return with_generation(data, facts)
    return data


def _texts(texts: dict[str, Any]) -> Any:  # noqa: ANN401  (Pillow's `PngInfo`)
    from PIL.PngImagePlugin import PngInfo

    found = PngInfo()
    for name, value in texts.items():
        text = str(value)
        if text.isascii() and name not in ("XML:com.adobe.xmp", own.KEY):
            found.add_text(name, text)
        else:
            found.add_itxt(name, text)
    return found
