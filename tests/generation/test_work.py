"""Whatever is in a file, parsing it takes no more work than is counted, and allowed."""

import asyncio
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generation import carriers as at
from generation.effort import MOST_MEMORY, effort_of, memory_of, parses_of, some_of_it
from generation.fuzzing import KEPT, Fuzzer
from generation.hostile_files import HOSTILE, many_savers
from generation.made_files import files, graphs
from generation.whole import find_in
from in_memory import OpenedBytes
from stillroom.errors import UnsupportedMedia
from stillroom.features.library.headers.probe import probe
from stillroom.formats.file_parts import FileParts
from stillroom.formats.work_budget import TooMuchWork, WorkBudget
from stillroom.generation import reading
from stillroom.generation.reading import by_reading, exceeded_reports, find
from stillroom.generation.writing.mark import with_ai_mark


@pytest.fixture(scope="module")
def fuzzer() -> Fuzzer:
    return Fuzzer(7)


SLOW_TO_TRACE = settings(deadline=None, max_examples=40)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_says_much_takes_little_work(name: str) -> None:
    for what, (parse, parts) in parses_of(HOSTILE[name]()).items():
        parts.budget = some_of_it()

        effort = effort_of(parse, parts)

        assert effort.is_bounded, (what, effort)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_says_much_takes_little_memory(name: str) -> None:
    data = HOSTILE[name]()

    assert memory_of(lambda: find_in(data)) < MOST_MEMORY


@pytest.mark.parametrize("name", HOSTILE)
def test_the_event_loop_does_a_small_part_of_it(name: str) -> None:
    for what, (parse, parts) in parses_of(HOSTILE[name]()).items():
        parts.budget = WorkBudget().part_at_once()

        effort = effort_of(parse, parts)

        assert effort.lines < 20_000, (what, effort)


@pytest.mark.parametrize("file", sorted(KEPT.glob("*.bin")), ids=lambda file: file.stem)
def test_what_fuzzing_has_reached_is_parsed_within_bounds(fuzzer: Fuzzer, file: Path) -> None:
    assert fuzzer.tried(file.read_bytes())[0] == ""


def test_files_made_by_chance_are_parsed_within_bounds(fuzzer: Fuzzer) -> None:
    for _ in itertools.islice(fuzzer.run(), 150):
        pass

    assert fuzzer.violations == []


@given(files)
@SLOW_TO_TRACE
def test_all_work_on_a_file_is_counted(data: bytes) -> None:
    for what, (parse, parts) in parses_of(data).items():
        effort = effort_of(parse, parts)

        assert effort.is_bounded, (what, effort)


@pytest.mark.parametrize("depth", [1, 7, 15, 23, 30])
def test_names_are_counted_at_each_depth_of_a_packet(depth: int) -> None:
    """The deeper a name is, the more elements may declare its prefix."""
    space = 'xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    deep = "<r:b>" * depth + "<r:a/>" * 3000 + "</r:b>" * depth
    packet = f"XML:com.adobe.xmp\0\0\0\0\0<x {space}>{deep}</x>".encode()

    assert effort_of(find, FileParts.whole(at.png_with(at.chunk(b"iTXt", packet)))).is_bounded


@given(graphs, st.integers(1, 2000))
@SLOW_TO_TRACE
def test_a_graph_takes_no_more_looks_than_are_left(graph: dict[str, object], looks: int) -> None:
    parts = FileParts.whole(at.png({"prompt": json.dumps(graph)}))
    parts.budget = WorkBudget(looks)

    effort = effort_of(find, parts)

    assert effort.lines < 10_000 + 16 * looks


def test_a_file_within_the_millisecond_is_parsed_in_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "_parsing", None)  # there is no thread
    data = at.png({"parameters": "a fox\nSteps: 20, Seed: 5, Size: 8x6"})

    async def read(start: int, length: int) -> bytes:
        return data[start : start + length]

    assert asyncio.run(by_reading(len(data), read, find)) == find_in(data)


def test_a_file_that_takes_too_much_has_no_facts_and_is_counted() -> None:
    counted: list[None] = []
    data = many_savers()

    async def read(start: int, length: int) -> bytes:
        return data[start : start + length]

    exceeded_reports.add(report := lambda: counted.append(None))
    try:
        found = asyncio.run(reading.find_by_reading(len(data), read))
        with pytest.raises(TooMuchWork):
            asyncio.run(by_reading(len(data), read, find))
    finally:
        exceeded_reports.discard(report)

    assert (found.generation, found.ai_mark, found.broken) == (None, None, True)
    assert len(counted) == 2


async def test_an_image_whose_facts_take_too_much_is_ingested_without_them() -> None:
    probed = await probe(OpenedBytes(many_savers()))

    assert (probed.width, probed.height) == (8, 6)
    assert (probed.generation, probed.ai_mark) == (None, None)


def test_a_mark_is_put_into_no_avif_with_endless_extents() -> None:
    with pytest.raises(UnsupportedMedia):
        with_ai_mark(HOSTILE["extents without numbers"]())
