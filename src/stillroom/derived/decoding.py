"""One picture out of another: the only file that imports Pillow, and never in a server process.

As fast as Pillow and libvips get: a JPEG is decoded at the smallest of its own scales that will
do (`draft`), shrunk by whole factors to twice the size wanted, and by Lanczos from there
(docs/performance.md has the figures). Colours are brought to sRGB, EXIF orientation is applied,
and everything else that the file says of itself (prompts, places, names) stays behind.

Source:
    https://pillow.readthedocs.io/en/stable/reference/Image.html (draft, resize, reducing_gap)
"""

import contextlib
import importlib
import io
import warnings
from typing import BinaryIO, Final

from PIL import AvifImagePlugin, Image, ImageCms

from stillroom.derived.cut_off import is_cut_off
from stillroom.derived.wire import COLOR, Job

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
"""What generators write and browsers show. No TIFF: dozens of codecs, which no browser shows;
no format that is a program or points elsewhere (EPS, WMF, PSD, ICNS …)."""

_GAP: Final = 2.0
"""What `reduce` leaves for Lanczos to do; libvips has the same default."""

_WEBP_METHOD: Final = 4
_WHITE: Final = (255, 255, 255)
_ORIENTATION: Final = 0x0112
"""https://www.cipa.jp/std/documents/e/DC-X008-Translation-2019-E.pdf, 4.6.4 A."""

_TURNED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE: Final = (5, 6, 7, 8)

_SRGB: Final = ImageCms.createProfile("sRGB")
_PROFILED: Final = {"RGB": "RGB ", "RGBA": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
"""Modes that have colours of a profile, and the colour space that it must be for."""

_MAX_SCANS: Final = 100
"""Of a JPEG; progressive ones have some ten. Each is decoded over the whole image, and takes a few
bytes of the file. https://libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf"""

_START_OF_SCAN: Final = b"\xff\xda"
"""In a scan 0xFF is followed by a zero; in metadata it may be anything, and seldom is this."""

_JPEGS: Final = ("JPEG", "MPO")
_SEARCHED_BYTES: Final = 1024**2

_LOADED_LATE: Final = ("ImageSequence", "MpoImagePlugin", "TiffImagePlugin")
"""For JPEGs that hold several, and for EXIF, which is a TIFF."""

_VISIBLE: Final = 128
"""Of 255: what lets more through has the colour of what is behind it."""

_MAX_PROFILE_BYTES: Final = 4 * 1024**2

Box = tuple[float, float, float, float]


def prepare(max_pixels: int) -> None:
    """Load what Pillow would load with the first image that needs it; no file can be opened then.

    Args:
        max_pixels: Pillow itself is to open no larger image, either.
    """
    Image.init()
    for name in _LOADED_LATE:
        importlib.import_module(f"PIL.{name}")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a decoding process can start none
    Image.MAX_IMAGE_PIXELS = max_pixels


class TooManyPixelsError(Exception):
    """Decoded it would be larger than allowed; nothing was decoded."""


class TooManyScansError(Exception):
    """A JPEG is spread over more scans than any encoder makes; nothing was decoded."""


class CutOffError(Exception):
    """The file ends before its image does."""


def derive(file: BinaryIO, job: Job, *, max_pixels: int) -> bytes:
    """The picture that `job` describes, encoded, or its colour. Of several frames the first.

    Raises:
        CutOffError: as its name says, and it cannot be read for that.
        TooManyPixelsError: as its name says.
        TooManyScansError: as its name says.
        Exception: whatever Pillow raises about a file that it cannot read.
    """
    try:
        return _derived(file, job, max_pixels=max_pixels)
    except (MemoryError, TooManyPixelsError, TooManyScansError):
        raise
    except Exception as error:
        if is_cut_off(file):
            raise CutOffError from error
        raise


def _derived(file: BinaryIO, job: Job, *, max_pixels: int) -> bytes:
    with warnings.catch_warnings(), Image.open(file, formats=FORMATS) as image:
        warnings.simplefilter("ignore")  # about metadata; pixels are counted here
        if image.width * image.height > max_pixels:
            raise TooManyPixelsError
        if image.format in _JPEGS and _scans(file) > _MAX_SCANS:
            raise TooManyScansError
        if image.format == "PNG":
            image.load()  # as its EXIF does, which may follow; broken pixels are told only once
        orientation = _orientation(image)
        profile = image.info.get("icc_profile")
        asked = (job.width, job.height)
        if orientation in _ON_ITS_SIDE:
            asked = asked[::-1]
        size = _size(image.size, asked, covers=job.covers)
        image.draft(None, (int(size[0] * _GAP), int(size[1] * _GAP)))
        whole = _plain(image)
        shrunk = whole.resize(
            size, Image.Resampling.LANCZOS, box=_region(whole.size, size), reducing_gap=_GAP
        )
        del whole
    shrunk = _as_srgb(shrunk, profile)
    if orientation in _TURNED:
        shrunk = shrunk.transpose(_TURNED[orientation])
    return _encoded(shrunk, job)


def _scans(file: BinaryIO) -> int:
    """How many scans a JPEG has, at most; where it is read from stays the same."""
    here = file.tell()
    file.seek(0)
    found, end = 0, b""
    while piece := file.read(_SEARCHED_BYTES):
        found += (end + piece).count(_START_OF_SCAN)
        end = piece[-1:]
    file.seek(here)
    return found


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001  (broken EXIF raises all sorts; browsers show the image all the same)
        return 1
    return found if isinstance(found, int) else 1


def _size(size: tuple[int, int], box: tuple[int, int], *, covers: bool) -> tuple[int, int]:
    """Width and height of the result, before it is turned upright."""
    if covers:
        return min(size[0], box[0]), min(size[1], box[1])
    scale = min(box[0] / size[0], box[1] / size[1], 1)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _region(size: tuple[int, int], result: tuple[int, int]) -> Box:
    """The part in the middle that has the result's proportions."""
    scale = max(result[0] / size[0], result[1] / size[1])
    width, height = min(size[0], result[0] / scale), min(size[1], result[1] / scale)
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _plain(image: Image.Image) -> Image.Image:
    """The pixels, decoded, in a mode that can be shrunk: L, LA, RGB, RGBA or CMYK."""
    image.load()
    if image.mode.startswith("I"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    elif image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        image = image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        image = image.convert("RGB")
    return image


def _as_srgb(image: Image.Image, profile: object) -> Image.Image:
    """The same colours in sRGB; a profile that is broken or for another mode is not looked at."""
    if isinstance(profile, bytes) and 0 < len(profile) <= _MAX_PROFILE_BYTES:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            image = _converted(image, profile)
    return image.convert("RGB") if image.mode == "CMYK" else image


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space != _PROFILED.get(image.mode):
        return image
    if image.mode in ("RGB", "RGBA") and "sRGB" in (source.profile.profile_description or ""):
        return image
    converted = ImageCms.profileToProfile(
        image,
        source,
        _SRGB,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGBA" if image.mode == "RGBA" else "RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return converted or image


def _encoded(image: Image.Image, job: Job) -> bytes:
    image.info = {}  # encoders copy comments, profiles and more from it
    out = io.BytesIO()
    if job.format == COLOR:
        return _dominant_color(image)
    if job.format == "png":
        image.save(out, "PNG")
    elif job.format == "jpeg":
        _opaque(image).save(out, "JPEG", quality=job.quality)
    else:
        image.save(out, "WEBP", quality=job.quality, method=_WEBP_METHOD)
    return out.getvalue()


def _dominant_color(image: Image.Image) -> bytes:
    """The median of the fullest of 512 equal parts of the RGB cube; empty if nothing is visible."""
    pixels = image.convert("RGBA").tobytes()
    parts: dict[int, list[bytes]] = {}
    for at in range(0, len(pixels), 4):
        red, green, blue, alpha = pixels[at : at + 4]
        if alpha >= _VISIBLE:
            part = (red >> 5) << 6 | (green >> 5) << 3 | blue >> 5
            parts.setdefault(part, []).append(pixels[at : at + 3])
    if not parts:
        return b""
    fullest = max(parts.values(), key=len)
    # Not the mean: shrinking has mixed colours along edges.
    median = bytes(sorted(channel)[len(fullest) // 2] for channel in zip(*fullest, strict=True))
    return b"#" + median.hex().encode("ascii")


def _opaque(image: Image.Image) -> Image.Image:
    """On white, as Cloudflare does."""
    if image.mode not in ("LA", "RGBA"):
        return image
    image = image.convert("RGBA")
    ground = Image.new("RGB", image.size, _WHITE)
    ground.paste(image, mask=image.getchannel("A"))
    return ground
