"""Real images, made by Pillow: other bytes for each seed."""

import io
import random
from typing import Any

from PIL import Image, ImageCms


def picture(
    seed: int = 0, form: str = "PNG", size: tuple[int, int] = (24, 16), **how: Any
) -> bytes:
    pixels = random.Random(seed).randbytes(size[0] * size[1] * 3)
    return encoded(Image.frombytes("RGB", size, pixels), form, **how)


def encoded(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **how)
    return out.getvalue()


def srgb_profile() -> bytes:
    """One that Little CMS makes, which calls it `sRGB built-in`, without the time of its making."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + bytes(12) + made[36:]  # ICC.1, 7.2.1: the date is in bytes 24 to 35
