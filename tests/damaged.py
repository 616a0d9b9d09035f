"""Videos that are damaged on purpose: lengths, depth, loops, zeros, cuts and noise."""

import random
import re
import struct
from collections.abc import Callable, Iterator

from videos import UNKNOWN, Mp4, frames, recorded, webm

ORIGINALS: dict[str, Callable[[], bytes]] = {
    "recorded.webm": lambda: recorded("webm"),
    "recorded.mp4": lambda: recorded("mp4"),
    "finished.webm": lambda: webm(frames()),
    "tracks-last.webm": lambda: webm(frames(), tracks_last=True),
    "moov-first.mp4": lambda: Mp4(frames(), sound=True).file(moov_first=True),
    "moov-last.mp4": lambda: Mp4(frames(), version=1).file(),
    "indexed.mp4": lambda: Mp4(frames()).fragmented(mfra=True),
    "fragments.mov": lambda: Mp4(frames()).fragmented(),
}
NAMES = re.findall(
    rb"....",
    b"ftypmoovmvhdtraktkhdmdiamdhdhdlrminfstblstsdsttsmvexmehdtrexmooftraftfhdtfdttrunmdatmfra"
    b"tframfrofree",
)
IDS = [bytes.fromhex(name) for name in (
    "1a45dfa3", "4282", "18538067", "114d9b74", "4dbb", "53ab", "53ac", "1549a966", "2ad7b1",
    "4489", "1654ae6b", "ae", "e0", "b0", "ba", "1f43b675", "e7", "a3",
)]  # fmt: skip
LENGTHS = (0, 1, 2, 7, 8, 9, 15, 16, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(count: int) -> Iterator[tuple[str, bytes]]:
    originals = {name: make() for name, make in ORIGINALS.items()}
    places = {name: _places(data) for name, data in originals.items()}
    for seed in range(count):
        chance = random.Random(seed)
        name = chance.choice(sorted(originals))
        data = bytearray(originals[name])
        for _ in range(chance.choice((1, 1, 2, 5))):
            how = chance.choice(WAYS)
            how(chance, data, min(chance.choice(places[name]), max(len(data) - 8, 0)))
        yield f"{seed} {name}", bytes(data)


def _places(data: bytes) -> list[int]:
    found = []
    for name in NAMES + IDS:
        at = data.find(name)
        while at >= 0 and len(name) > 1:
            found.append(max(at - 4 if name in NAMES else at + len(name), 0))
            at = data.find(name, at + 1)
    return found


def _another_length(chance: random.Random, data: bytearray, at: int) -> None:
    data[at : at + 4] = struct.pack(">I", chance.choice(LENGTHS))


def _wide_length(chance: random.Random, data: bytearray, at: int) -> None:
    wide = chance.choice((0, 8, 15, 16, 2**32, 2**63, 2**64 - 1, chance.getrandbits(64)))
    data[at : at + 8] = struct.pack(">I4sQ", 1, bytes(data[at + 4 : at + 8]), wide)


def _ones(chance: random.Random, data: bytearray, at: int) -> None:
    data[at : at + chance.randint(1, 9)] = b"\xff" * chance.randint(1, 12)


def _zeros(chance: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = bytes(8 * chance.choice((1, 3, 1000, 30_000)))


def _deeper(chance: random.Random, data: bytearray, at: int) -> None:
    kind = chance.choice(NAMES)
    depth = chance.choice((10, 1000, 8000))
    data[at:at] = b"".join(struct.pack(">I4s", 8 * (depth - one), kind) for one in range(depth))


def _deeper_elements(chance: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = (chance.choice(IDS) + chance.choice((b"\xff", UNKNOWN, b"\x82"))) * 5000


def _cut(chance: random.Random, data: bytearray, at: int) -> None:
    del data[max(at + chance.randint(-3, 40), 0) :]


def _hole(chance: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + chance.randint(1, 64)]


def _again(chance: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + chance.randint(1, 4000)] * chance.randint(1, 50)


def _noise(chance: random.Random, data: bytearray, at: int) -> None:
    for _ in range(chance.randint(1, 20)):
        if at < len(data):
            data[min(at + chance.randint(0, 60), len(data) - 1)] = chance.randrange(256)


WAYS = (
    _another_length, _another_length, _wide_length, _ones, _zeros, _deeper, _deeper_elements, _cut,
    _hole, _again, _noise, _noise,
)  # fmt: skip
