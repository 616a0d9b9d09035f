"""`python -m benchmarks.thumbnails`: thumbnails per second of a core, and per peer's.

Ours are asked for over HTTP, with a token, and kept nowhere; all that the server and its decoding
processes use is counted. Pillow and libvips do the same work in this process, as their own
documents have it: `thumbnail`, which decodes no more than is needed. In each round each of them
has its turn, and a ratio is one of the same round.
"""

import functools
import http.client
import io
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from PIL import Image

from benchmarks.processes import cpu_seconds
from benchmarks.servers import Server, stillroom

SIDE: Final = 256
QUALITY: Final = 80
OURS: Final = "Stillroom"
PEERS: Final = ("Pillow", "libvips")

_QUERY: Final = f"width={SIDE}&height={SIDE}&format=webp&quality={QUALITY}"
_OK: Final = 200


@dataclass(frozen=True)
class Kind:
    """Images of one kind, and how many pictures make a turn."""

    name: str
    form: str
    size: tuple[int, int]
    times: int


KINDS: Final = (
    Kind("PNG of 1024²", "PNG", (1024, 1024), 20),
    Kind("JPEG of 4032 x 3024", "JPEG", (4032, 3024), 12),
    Kind("WebP of 1024²", "WEBP", (1024, 1024), 20),
    Kind("AVIF of 1024²", "AVIF", (1024, 1024), 10),
)


@dataclass(frozen=True)
class Rate:
    """What came out of one kind of image.

    Attributes:
        kind: Of the originals.
        a_second: Pictures per second of a core by who made them; the median of the rounds.
        ratios: Ours by each peer's, in the same round; the median.
        kept_a_second: Of ours that were made before.
    """

    kind: str
    a_second: dict[str, float]
    ratios: dict[str, float]
    kept_a_second: float


def measure(rounds: int, work: Path, kinds: tuple[Kind, ...] = KINDS) -> Iterator[Rate]:
    """Measure all kinds; `work` is an empty folder for the server."""
    variables = {"STILLROOM_DERIVED_CACHE_BYTES": "0", "STILLROOM_DERIVED_PROCESSES": "1"}
    with (
        stillroom(work / "making", variables=variables) as making,
        stillroom(work / "keeping") as keeping,
    ):
        for kind in kinds:
            original = photograph(kind)
            for server in (making, keeping):
                server.save(f"{kind.form}.img", original)
            yield _rate(kind, original, making, keeping, rounds)


def _rate(kind: Kind, original: bytes, making: Server, keeping: Server, rounds: int) -> Rate:
    turns: dict[str, Callable[[int], float]] = {
        OURS: functools.partial(_asked, making, kind),
        "Pillow": functools.partial(_here, functools.partial(_by_pillow, original)),
        "libvips": functools.partial(_here, functools.partial(_by_libvips, original)),
    }
    for turn in turns.values():
        turn(2)
    found: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds):
        names = list(turns)[:: 1 if number % 2 else -1]
        for name in names:
            found[name].append(kind.times / turns[name](kind.times))
    _asked(keeping, kind, 2)
    kept = 50 * kind.times
    return Rate(
        kind.name,
        {name: statistics.median(rates) for name, rates in found.items()},
        {
            peer: statistics.median(
                ours / theirs for ours, theirs in zip(found[OURS], found[peer], strict=True)
            )
            for peer in PEERS
        },
        kept / _asked(keeping, kind, kept),
    )


def photograph(kind: Kind) -> bytes:
    """Soft shapes and fine grain, as photographs and generated images have them."""
    dice = random.Random(kind.name)  # noqa: S311  (the same picture in every run)
    shapes = Image.frombytes("RGB", (32, 24), dice.randbytes(32 * 24 * 3))
    grain = Image.effect_noise(kind.size, 12).convert("RGB")
    image = Image.blend(shapes.resize(kind.size, Image.Resampling.BICUBIC), grain, 0.2)
    out = io.BytesIO()
    image.save(out, kind.form, quality=90)
    return out.getvalue()


def _asked(server: Server, kind: Kind, times: int) -> float:
    """Seconds of processor time that so many answers take."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    before = cpu_seconds(server.pid)
    for _ in range(times):
        connection.request("GET", f"{server.prefix}{kind.form}.img?{_QUERY}", headers=server.fields)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != _OK:
            raise RuntimeError(f"no picture: {answer.status} {body!r}")
    connection.close()
    return cpu_seconds(server.pid) - before


def _here(make: Callable[[], bytes], times: int) -> float:
    before = time.process_time()
    for _ in range(times):
        make()
    return time.process_time() - before


def _by_pillow(original: bytes) -> bytes:
    """https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.Image.thumbnail."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(original)) as image:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        image.save(out, "WEBP", quality=QUALITY)
    return out.getvalue()


def _by_libvips(original: bytes) -> bytes:
    """https://www.libvips.org/API/current/ctor.Image.thumbnail_buffer.html."""
    import pyvips

    image = pyvips.Image.thumbnail_buffer(original, SIDE)
    return image.webpsave_buffer(Q=QUALITY)


def table(rates: list[Rate]) -> str:
    """For people: a row for each kind; rates are per second of a core."""
    lines = [
        f"| {SIDE} px WebP of a | {OURS} | of Pillow's | of libvips's | kept |",
        "|---|---|---|---|---|",
    ]
    lines += [
        (
            f"| {rate.kind} | {rate.a_second[OURS]:.1f} | {rate.ratios['Pillow']:.2f} "
            f"| {rate.ratios['libvips']:.2f} | {rate.kept_a_second:.0f} |"
        )
        for rate in rates
    ]
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=5, show_default=True, help="Turns of each.")
def main(*, rounds: int) -> None:
    """Thumbnails per second of a core, beside Pillow and libvips in one run."""
    with tempfile.TemporaryDirectory(prefix="stillroom-thumbnails-") as folder:
        click.echo(table(list(measure(rounds, Path(folder)))))


if __name__ == "__main__":
    main()
