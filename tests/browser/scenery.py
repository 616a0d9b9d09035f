"""Pictures that look like something, drawn by a few lines: a sky, a sun or a moon, and hills."""

import colorsys
import math
import random

from PIL import Image, ImageDraw, ImageFilter

from pictures import encoded

_SHAPES = ((3, 2), (1, 1), (2, 3), (4, 3), (16, 9))


def scenery(seed: int, *, edge: int = 900, form: str = "JPEG") -> bytes:
    """A landscape of its own for each seed; its longer side is `edge` pixels."""
    chance = random.Random(seed)
    across, down = chance.choice(_SHAPES)
    width, height = (round(edge * part / max(across, down)) for part in (across, down))
    hue = chance.random()
    night = chance.random() < 0.3
    image = _sky(chance, (width, height), hue, night=night)
    draw = ImageDraw.Draw(image)
    radius = min(width, height) * chance.uniform(0.05, 0.16)
    x, y = width * chance.uniform(0.2, 0.8), height * chance.uniform(0.15, 0.5)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), _colour(hue + 0.12, 0.25, 0.97))
    layers = chance.randint(3, 6)
    for layer in range(layers):
        depth = (layer + 1) / layers
        base = height * (0.45 + 0.45 * depth)
        waves = [
            (chance.uniform(0.6, 3.5), chance.uniform(0, math.tau), chance.uniform(0.02, 0.09))
            for _ in range(4)
        ]
        line = [
            (
                at,
                base
                - sum(height * a * math.sin(f * math.tau * at / width + p) for f, p, a in waves),
            )
            for at in range(0, width + 8, 8)
        ]
        light = (0.5 if night else 0.8) * (1 - 0.75 * depth) + 0.08
        colour = _colour(hue + 0.08 * depth, 0.25 + 0.4 * depth, light)
        draw.polygon([(0, height), *line, (width, height)], colour)
    return encoded(image.filter(ImageFilter.SMOOTH), form, quality=88)


def _sky(chance: random.Random, size: tuple[int, int], hue: float, *, night: bool) -> Image.Image:
    top = _colour(hue + chance.uniform(-0.1, 0.1), 0.55, 0.28 if night else 0.8)
    low = _colour(hue + chance.uniform(0.05, 0.2), 0.35, 0.5 if night else 0.97)
    strip = Image.new("RGB", (1, 64))
    for row in range(64):
        part = row / 63
        mixed = [round(a + (b - a) * part) for a, b in zip(top, low, strict=True)]
        strip.putpixel((0, row), (mixed[0], mixed[1], mixed[2]))
    return strip.resize(size, Image.Resampling.BICUBIC)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
