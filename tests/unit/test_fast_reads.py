"""What the fast path remembers of requests has a bound, whatever clients send."""

import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

from stillroom.paths import ImagePath, StorageKey
from stillroom.speed.fast_path.reads import FastReads
from stillroom.speed.fast_path.responses import Answer, FileResponses, Line
from stillroom.store.hooks import NO_HOOKS
from stillroom.store.values import StoredImage

MIB = 1024**2


def responses(cache_bytes: int = 0) -> FileResponses:
    operations = cast("Any", SimpleNamespace(cache_control="", hooks=NO_HOOKS))
    return FileResponses(cast("Any", None), operations, b"\r\n", cache_bytes=cache_bytes)


def line(name: str) -> Line:
    path = ImagePath(name)
    key = StorageKey.of_image(path)
    return Line("GET", path, key, StoredImage(key, 5, '"e"', 0, "image/png", None, "s"))


def test_answers_to_conditions_that_clients_make_up_are_forgotten_in_turn() -> None:
    known, lines = responses(), [line(f"{number}.png") for number in range(2000)]
    tracemalloc.start()

    for one in lines:
        for number in range(8):
            conditions = (f'"{number}' + "x" * 3500 + '"', one.path.text)
            known._cache(one, conditions, Answer("get_image", 304, b"head"))
            assert known._cached_answer(one, conditions) is not None

    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 16 * MIB


def test_an_answer_to_a_condition_is_of_one_save() -> None:
    known, one = responses(), line("a.png")
    known._cache(one, ('"e"',), Answer("get_image", 304, b"head"))
    assert known._cached_answer(one, ('"e"',)) is not None

    one.use(line("a.png").image)

    assert known._cached_answer(one, ('"e"',)) is None
    assert known._cached_answer(one, ('"f"',)) is None


def test_a_line_that_is_forgotten_takes_its_body_along() -> None:
    known = responses(cache_bytes=64 * MIB)
    unused = cast("Any", None)
    reads = FastReads(unused, unused, known.find, known.forget, longest_target=8192)
    for number in range(40_000):
        target = b"GET /api/v1/storage/images/%d.png HTTP/1.1" % number
        one = reads._add_line(target, len(target))
        assert one is not None
        one.whole = known._whole.put(one, b"body", 100)

    assert len(known._whole) == len(reads._lines) == 32_768
