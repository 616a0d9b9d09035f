"""ComfyUI's images to files and back: tensors of floats, 0 to 1, as (height, width, channels)."""

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, PngImagePlugin

logger = logging.getLogger(__name__)

SUFFIXES: Final = {"png": ".png", "webp": ".webp", "webp-lossless": ".webp", "jpeg": ".jpg"}
"""The formats that the node offers."""

_MODEL: Final = 0x0110
_MAKE: Final = 0x010F
_MAX_JPEG_EXIF_BYTES: Final = 65_533 - len(b"Exif\x00\x00")  # a segment has 16 bits for its length
_FULL: Final = 255.0
_EMPTY_MASK: Final = (64, 64)

Floats = NDArray[np.float32]


class Tensor(Protocol):
    """What is used of a `torch.Tensor`."""

    def cpu(self) -> "Tensor":
        """In the memory of the computer."""

    def numpy(self) -> NDArray[Any]:
        """As an array."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How images are written.

    Attributes:
        format: A key of `SUFFIXES`.
        quality: 1 to 100, of WebP and JPEG.
    """

    format: str
    quality: int

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        return SUFFIXES[self.format]


def encoded(image: Tensor, encoding: Encoding, texts: Mapping[str, str]) -> bytes:
    """An image as a file that has the texts where ComfyUI looks for them when one is dropped on it.

    Those are text chunks of a PNG, and properties of EXIF in the others.
    """
    # Rounded down, as by ComfyUI's own node: the same image has the same pixels in both.
    array = np.clip(_FULL * image.cpu().numpy(), 0, _FULL).astype(np.uint8)
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    file = io.BytesIO()
    if encoding.format == "png":
        info = PngImagePlugin.PngInfo()
        for name, text in texts.items():
            info.add_text(name, text)
        picture.save(file, "PNG", pnginfo=info, compress_level=4)
    elif encoding.format == "jpeg":
        exif = _that_fits(texts)
        picture.convert("RGB").save(file, "JPEG", quality=encoding.quality, exif=exif)
    else:
        lossless = encoding.format == "webp-lossless"
        exif = _exif(texts)
        picture.save(file, "WEBP", quality=encoding.quality, lossless=lossless, exif=exif)
    return file.getvalue()


def texts_of(prompt: object, extra_pnginfo: Mapping[str, object] | None) -> dict[str, str]:
    """The graph as it ran, and what the editor gave (`workflow`), as JSON."""
    given = {} if prompt is None else {"prompt": prompt}
    given |= dict(extra_pnginfo or {})
    return {name: json.dumps(value) for name, value in given.items()}


def _exif(texts: Mapping[str, str]) -> bytes:
    """`prompt:…` in Model, the others in Make and below, as ComfyUI writes them into WebP."""
    exif = Image.Exif()
    others = (name for name in texts if name != "prompt")
    for tag, name in enumerate(others):
        exif[_MAKE - tag] = f"{name}:{texts[name]}"
    if "prompt" in texts:
        exif[_MODEL] = f"prompt:{texts['prompt']}"
    return exif.tobytes()


def _that_fits(texts: Mapping[str, str]) -> bytes:
    """The same for JPEG, which has room for 64 KiB: without the workflow if need be."""
    kept = dict(texts)
    while len(exif := _exif(kept)) > _MAX_JPEG_EXIF_BYTES:
        largest = max(kept, key=lambda name: len(kept[name]))
        logger.warning("a JPEG has no room for the %s (64 KiB): use WebP or PNG", largest)
        del kept[largest]
    return exif


def decoded(file: bytes) -> tuple[Floats, Floats]:
    """Images as (frames, height, width, 3), and where they are transparent: 1 is fully.

    Frames of another size than the first are left out. Without transparency the mask is a small
    black one, as that of ComfyUI's own node.
    """
    pictures: list[Floats] = []
    masks: list[Floats] = []
    with Image.open(io.BytesIO(file)) as opened:
        for frame in ImageSequence.Iterator(opened):
            upright = ImageOps.exif_transpose(frame)
            if upright.mode in {"I", "I;16"}:  # 16 bits of grey; convert() would cut them off
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            picture = np.asarray(upright.convert("RGB"), np.float32) / np.float32(_FULL)
            if pictures and picture.shape != pictures[0].shape:
                continue
            pictures.append(picture)
            masks.append(_mask(upright))
            if opened.format == "MPO":  # previews of a photo, no frames
                break
    return np.stack(pictures), np.stack(masks)


def _mask(picture: Image.Image) -> Floats:
    if not picture.has_transparency_data:
        return np.zeros(_EMPTY_MASK, np.float32)
    alpha = np.asarray(picture.convert("RGBA").getchannel("A"), np.float32)
    return np.float32(1) - alpha / np.float32(_FULL)
