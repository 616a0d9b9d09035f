"""A fuzzer of the parsers of `generation` and `formats`: work and memory of each input count.

It changes files by chance, and keeps those that reach lines of the parsers that no other has
reached, or take more looks. So it finds its way into formats as Atheris does, whose wheel would be
one more thing to install and pin. `fuzzed/` has the smallest files that reach what the others here
do not, and those that something was wrong with; `test_work.py` parses them.
"""

import json
import random
import re
import resource
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from damaged import IDS, NAMES, ORIGINALS
from generation import carriers as at
from generation import hostile_files as hostile
from generation.comfy_graphs import GRAPHS
from generation.corpus import corpus
from generation.effort import MOST_MEMORY, Unbounded, effort_of, memory_of, parses_of, some_of_it
from generation.whole import find_in
from pictures import picture, srgb_profile
from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.formats.file_parts import BrokenHeader, MoreNeeded
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation.writing.mark import with_ai_mark
from stillroom.store import content_type

if TYPE_CHECKING:
    from types import CodeType

KEPT: Final = Path(__file__).parent / "fuzzed"

_MOST_BYTES: Final = 60_000
_MOST_KEPT: Final = 500
_MOST_CPU_S: Final = 5.0
"""Ten times what the budget allows on one core, since others may keep its caches cold."""

_MOST_ADDRESSES: Final = 2 * 1024**3
"""Of the process, so that a file that takes all memory is a finding and no more."""

T = TypeVar("T")

_EXPECTED: Final = (BrokenHeader, MoreNeeded, TooMuchWork)
_WORDS: Final = (
    *NAMES, *IDS, *re.findall(
        rb"....",
        b"IHDRIDATIENDtEXtiTXtzTXteXIfiCCPcICPcaBXmetaiinfinfeilocidatiprpipcoispecolruuidnclxprof"
        b"ExifmimejumbjxlcjxlpbrobEXIFXMP ICCPVP8XC2PAdescmlucacsp",
    ),
    b"UNICODE\0", b"parameters\0", b"prompt\0", b"workflow\0", b"Dream\0", b"XML:com.adobe.xmp\0",
    b"\xff\xe1", b"\xff\xe2", b"Steps: 1, ", b"<lora:a:1>", b"class_type", b"\0", bytes([255] * 4),
)  # fmt: skip
_NUMBERS: Final = (0, 1, 2, 8, 12, 16, 255, 256, 4096, 65_535, 2**31 - 1, 2**32 - 1)
_ODD: Final[tuple[Any, ...]] = (
    None, True, -1, 7, 1e300, "", "x" * 3000, "save" * 50, [], {}, ["3", 0], ["8", 0], [["a"]],
    {"on": True, "lora": "a"}, "StringConcatenate", "Reroute", "KSampler", -10, -20, 4,
)  # fmt: skip


def seeds() -> list[bytes]:
    forms = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "PNG", "TIFF", "WEBP")
    profiles = ("AVIF", "JPEG", "PNG", "TIFF", "WEBP")
    found = [sample.data for sample in corpus()[::7]]
    found += [picture(form=form) for form in forms]
    found += [picture(form=form, icc_profile=srgb_profile()) for form in profiles]
    found += [make() for make in ORIGINALS.values()]
    found += [
        hostile.doubled_text(5, "a"), hostile.many_savers(6, 8), hostile.lora_circles(3, 3),
        hostile.long_kinds(5), hostile.same_comment(5, 100), hostile.overlapping_items(3, 3, 100),
        hostile.empty_extents(2), hostile.long_namespace(20, 50), hostile.same_loras(20),
        hostile.listed_loras(10), hostile.icons(3), hostile.directory_of_tiff(20),
    ]  # fmt: skip
    found += [at.with_c2pa(form, at.jumbf()) for form in ("PNG", "JPEG", "WEBP", "AVIF")]
    found += [file.read_bytes() for file in sorted(KEPT.glob("*.bin"))]
    return [data for data in found if len(data) <= _MOST_BYTES]


class Fuzzer:
    """Files made by chance from a seed; `pool` has those that reached something new."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._reached: set[tuple[CodeType, int]] = set()
        self._most_looks: dict[tuple[str, str | None], int] = {}
        self.pool = seeds()
        self._graphs = [
            ("prompt", json.dumps(made("a fox", "blurry", 7))) for made in GRAPHS.values()
        ]
        self._may_repeat = True
        self.violations: list[tuple[str, bytes]] = []

    def run(self) -> Iterator[int]:
        while True:
            graph = self._graph() if self._chance.random() < 0.4 else None
            data = self._changed() if graph is None else _png_of(*graph)
            wrong, is_new = self.tried(data)
            if wrong:
                self.violations.append((wrong, data))
            elif is_new and graph is not None:
                name, value = graph
                self._keep(
                    self._graphs, (name, json.dumps(value))
                )  # objects take ten times as much
            elif is_new:
                self._keep(self.pool, data)
            yield len(self.pool) + len(self._graphs)

    def _keep(self, pool: list[T], one: T) -> None:
        if len(pool) < _MOST_KEPT:
            pool.append(one)
        else:
            pool[self._chance.randrange(_MOST_KEPT)] = one

    def tried(self, data: bytes) -> tuple[str, bool]:
        """Parse a file: what was wrong ("" if nothing), and whether it reached anything new."""
        try:
            wrong, is_new = self._counted(data)
            began = time.thread_time()
            memory = 0 if wrong else memory_of(lambda: _use(data))
        except (Exception, Unbounded) as error:  # noqa: BLE001  (each is a finding)
            return repr(error), False
        taken = time.thread_time() - began
        if taken > _MOST_CPU_S or memory > MOST_MEMORY:
            wrong = f"{taken:.1f} s of CPU, {memory:,} bytes"
        return wrong, is_new

    def _counted(self, data: bytes) -> tuple[str, bool]:
        is_new = False
        for what, (parse, parts) in parses_of(data).items():
            parts.budget = some_of_it(40)
            lines: set[tuple[CodeType, int]] = set()
            effort = effort_of(parse, parts, lines)
            if not effort.is_bounded:
                return f"{what}: {effort}", False
            form = what, content_type.by_content(data[: content_type.SNIFFED_BYTES])
            most = self._most_looks.get(form, 0)
            is_new = is_new or not lines <= self._reached or effort.looks > 2 * most
            self._most_looks[form] = max(most, effort.looks)
            self._reached |= lines
        return "", is_new

    def _changed(self) -> bytes:
        chance = self._chance
        data = bytearray(chance.choice(self.pool))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            place = self._place(data)
            chance.choice(_WAYS)(self, data, place)
        return bytes(data[:_MOST_BYTES])

    def _place(self, data: bytearray) -> int:
        """Mostly where the heads are: in front, or behind."""
        length = len(data)
        reach = self._chance.choice((64, 512, 4096, length + 1))
        place = self._chance.randrange(min(reach, length + 1))
        return place if self._chance.random() < 0.8 else length - place

    def _flip(self, data: bytearray, place: int) -> None:
        if place < len(data):
            data[place] ^= 1 << self._chance.randrange(8)

    def _number(self, data: bytearray, place: int) -> None:
        form = self._chance.choice((">I", "<I", ">H", "<H", "B"))
        number = self._chance.choice((*_NUMBERS, len(data), place))
        width = struct.calcsize(form)
        data[place : place + width] = struct.pack(form, number % 256**width)

    def _word(self, data: bytearray, place: int) -> None:
        word = self._chance.choice(_WORDS)
        over = len(word) if self._chance.random() < 0.5 else 0
        data[place : place + over] = word

    def _repeat(self, data: bytearray, place: int) -> None:
        piece = data[place : place + self._chance.choice((4, 12, 50, 500))]
        times = self._chance.choice((1, 10, 1000, 10_000))
        if piece:
            data[place:place] = piece * min(times, _MOST_BYTES // len(piece))

    def _cut(self, data: bytearray, place: int) -> None:
        del data[place : place + self._chance.choice((1, 4, 100, len(data)))]

    def _splice(self, data: bytearray, place: int) -> None:
        other = self._chance.choice(self.pool)
        start = self._place(bytearray(other))
        data[place:place] = other[start : start + self._chance.choice((8, 100, 5000))]

    def _graph(self) -> tuple[str, Any]:
        name, text = self._chance.choice(self._graphs)
        graph = json.loads(text)
        for _ in range(self._chance.choice((1, 2, 4))):
            self._may_repeat = True
            other = self._other(graph)
            if len(json.dumps(other)) > _MOST_BYTES:  # it grows by repeating parts of itself
                break
            graph = other
        return name, graph

    def _other(self, value: Any) -> Any:
        chance = self._chance
        if isinstance(value, dict | list) and value and chance.random() < 0.85:
            key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
            copy: Any = value.copy()
            if self._may_repeat and chance.random() < 0.2:
                self._may_repeat = False  # repeated parts of repeated parts would fill the memory
                for number in range(chance.choice((1, 5, 30))):
                    if isinstance(copy, list):
                        copy.append(self._other(value[key]))
                    else:
                        copy[f"{key}{number}"] = self._other(value[key])
            else:
                copy[key] = self._other(value[key])
            return copy
        return chance.choice((*_ODD, *map(str, range(12)), *range(12)))


_WAYS: Final[tuple[Callable[[Fuzzer, bytearray, int], None], ...]] = (
    Fuzzer._flip, Fuzzer._number, Fuzzer._number, Fuzzer._word, Fuzzer._repeat, Fuzzer._cut,
    Fuzzer._splice,
)  # fmt: skip


def _png_of(name: str, graph: Any) -> bytes:
    said = json.dumps(graph).encode()[:_MOST_BYTES]
    return at.png_with(at.chunk(b"tEXt", name.encode() + b"\0" + said))


def _use(data: bytes) -> None:
    for parse, parts in parses_of(data).values():
        try:
            parse(parts)
        except _EXPECTED:
            continue
    found = find_in(data).generation
    if found is not None:
        json.dumps(found.as_json(), allow_nan=False, ensure_ascii=False).encode()
    try:
        with_ai_mark(data)
    except (UnsupportedMedia, InvalidParameter):
        return


def fuzz(seconds: float, seed: int) -> tuple[int, list[str]]:
    """Count the files that were tried; what was wrong with some is written beside the kept ones."""
    fuzzer, tried, ends = Fuzzer(seed), 0, time.monotonic() + seconds
    for _ in fuzzer.run():
        tried += 1
        if time.monotonic() > ends:
            break
    for number, (_, data) in enumerate(fuzzer.violations[:20]):
        KEPT.mkdir(exist_ok=True)
        (KEPT / f"found-{seed}-{number}.bin").write_bytes(data)
    return tried, [wrong for wrong, _ in fuzzer.violations]


def main() -> None:
    """Print how many files were tried, then what was wrong; arguments are seconds and a seed."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_ADDRESSES, _MOST_ADDRESSES))
    tracemalloc.start()  # once: each start costs Python 3.11 eight kilobytes for ever
    tried, violations = fuzz(float(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write("\n".join([str(tried), *violations]) + "\n")


if __name__ == "__main__":
    main()
