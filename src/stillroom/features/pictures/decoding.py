"""Decoding and scaling of images with Pillow. Server processes never import this module.

For speed, a JPEG is decoded at the smallest suitable scale that the format supports (`draft`). The
image is then reduced by integer factors to about twice the target size, and finally scaled with the
Lanczos filter. Colours are converted to sRGB, the EXIF orientation is applied, and all other
metadata (prompts, places, names) is removed. Measurements are in docs/performance.md. Source:
https://pillow.readthedocs.io/en/stable/reference/Image.html (draft, resize, reducing_gap).
"""

import contextlib
import importlib
import io
import warnings
from typing import BinaryIO, Final

from PIL import AvifImagePlugin, Image, ImageCms

from stillroom.features.pictures import wire
from stillroom.features.pictures.cut_off import is_cut_off

# Formats that image generators write and browsers display. Excluded are TIFF, which has dozens of
# codecs, and formats that can contain programs or references (EPS, WMF, PSD, ICNS …).
FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
_GAP: Final = 2.0  # scaling factor that remains for the Lanczos filter, as in libvips
_WEBP_METHOD: Final = 4
_WHITE: Final = (255, 255, 255)
# Number of the EXIF tag for the orientation of an image (section 4.6.4 A):
# https://www.cipa.jp/std/documents/e/DC-X008-Translation-2019-E.pdf
_ORIENTATION: Final = 0x0112
_TRANSPOSES: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = (5, 6, 7, 8)

_SRGB: Final = ImageCms.createProfile("sRGB")
# Colour space that a colour profile must have, by the Pillow mode of the image.
_PROFILE_SPACES: Final = {"RGB": "RGB ", "RGBA": "RGB ", "L": "GRAY", "CMYK": "CMYK"}

# Maximum number of scans (passes over the image) in a JPEG. Progressive JPEGs have about ten.
# Decoding a scan of a few bytes processes the whole image, too. See
# https://libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf.
_MAX_SCANS: Final = 100

_START_OF_SCAN: Final = b"\xff\xda"  # never occurs inside a scan, and rarely in metadata
_JPEGS: Final = ("JPEG", "MPO")
_SEARCHED_BYTES: Final = 1024**2

# Modules that Pillow imports only on demand: for JPEGs with several images, and for EXIF.
_LOADED_LATE: Final = ("ImageSequence", "MpoImagePlugin", "TiffImagePlugin")

_VISIBLE: Final = 128  # minimum alpha value (0 to 255) of pixels that count for the colour
_MAX_PROFILE_BYTES: Final = 4 * 1024**2


def prepare(max_pixels: int) -> None:
    """Set Pillow's pixel limit, and import its modules while this process can still open files."""
    Image.init()
    for name in _LOADED_LATE:
        importlib.import_module(f"PIL.{name}")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a decoding process cannot start threads
    Image.MAX_IMAGE_PIXELS = max_pixels


def derive(file: BinaryIO, job: wire.Job, *, max_pixels: int) -> bytes:
    """Return the encoded thumbnail, or the dominant colour, of the first frame of an image.

    Raises `Refused` for a truncated file, or too many pixels or scans, and other errors of Pillow.
    """
    try:
        return _derive(file, job, max_pixels=max_pixels)
    except (MemoryError, wire.Refused):
        raise
    except Exception as error:
        if is_cut_off(file):
            raise wire.Refused(wire.CUT_OFF) from error
        raise


def _derive(file: BinaryIO, job: wire.Job, *, max_pixels: int) -> bytes:
    with warnings.catch_warnings(), Image.open(file, formats=FORMATS) as image:
        warnings.simplefilter("ignore")  # about metadata; pixels are checked below
        if image.width * image.height > max_pixels:
            raise wire.Refused(wire.TOO_MANY_PIXELS)
        if image.format in _JPEGS and _count_scans(file) > _MAX_SCANS:
            raise wire.Refused(wire.TOO_MANY_SCANS)
        if image.format == "PNG":
            image.load()  # else getexif loads the image, and hides errors about broken pixels
        orientation = _orientation(image)
        profile = image.info.get("icc_profile")
        box = (job.width, job.height)
        if orientation in _SIDEWAYS:
            box = box[::-1]
        size = _size(image.size, box, covers=job.covers)
        image.draft(None, (int(size[0] * _GAP), int(size[1] * _GAP)))
        whole = _decode_pixels(image)
        shrunk = whole.resize(
            size, Image.Resampling.LANCZOS, box=_region(whole.size, size), reducing_gap=_GAP
        )
        del whole
    shrunk = _as_srgb(shrunk, profile)
    if orientation in _TRANSPOSES:
        shrunk = shrunk.transpose(_TRANSPOSES[orientation])
    return _encode(shrunk, job)


def _count_scans(file: BinaryIO) -> int:
    """Return an upper bound for the number of scans in a JPEG. Restores the file position."""
    position = file.tell()
    file.seek(0)
    count, end = 0, b""
    while piece := file.read(_SEARCHED_BYTES):
        count += (end + piece).count(_START_OF_SCAN)
        end = piece[-1:]
    file.seek(position)
    return count


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001  (invalid EXIF raises various errors; browsers ignore them)
        return 1
    return value if isinstance(value, int) else 1


def _size(size: tuple[int, int], box: tuple[int, int], *, covers: bool) -> tuple[int, int]:
    if covers:
        return min(size[0], box[0]), min(size[1], box[1])
    scale = min(box[0] / size[0], box[1] / size[1], 1)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _region(size: tuple[int, int], result: tuple[int, int]) -> tuple[float, float, float, float]:
    scale = max(result[0] / size[0], result[1] / size[1])
    width, height = min(size[0], result[0] / scale), min(size[1], result[1] / scale)
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _decode_pixels(image: Image.Image) -> Image.Image:
    """Decode the pixels and convert them to a mode that can be scaled: L, LA, RGB, RGBA or CMYK."""
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
    """Convert an image from its colour profile to sRGB. An unsuitable profile is ignored."""
    if isinstance(profile, bytes) and 0 < len(profile) <= _MAX_PROFILE_BYTES:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            image = _apply_profile(image, profile)
    return image.convert("RGB") if image.mode == "CMYK" else image


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space != _PROFILE_SPACES.get(image.mode):
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


def _encode(image: Image.Image, job: wire.Job) -> bytes:
    image.info = {}  # encoders would copy comments, profiles and other metadata from it
    if job.format == wire.COLOR:
        return _dominant_color(image)
    out = io.BytesIO()
    if job.format == "jpeg":
        image = _flatten(image)
    image.save(out, job.format, quality=job.quality, method=_WEBP_METHOD)
    return out.getvalue()


def _dominant_color(image: Image.Image) -> bytes:
    """Return the dominant colour as `#rrggbb` in ASCII, or empty bytes for a transparent image.

    Colours are grouped into 512 ranges. The result is the median of the range with most pixels.
    """
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
    # Not the mean, because scaling has mixed colours along edges.
    median = bytes(sorted(channel)[len(fullest) // 2] for channel in zip(*fullest, strict=True))
    return b"#" + median.hex().encode("ascii")


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image
    image = image.convert("RGBA")
    background = Image.new("RGB", image.size, _WHITE)
    background.paste(image, mask=image.getchannel("A"))
    return background
