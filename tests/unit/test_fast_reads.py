"""What the fast path remembers of requests has a bound, whatever clients send."""

import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

from stillroom.paths import ImagePath, StorageKey
from stillroom.server.fast_path.answers import Answer
from stillroom.server.fast_path.lines import Line
from stillroom.server.fast_path.reads import FastReads
from stillroom.storage.values import StoredImage

MIB = 1024**2


def reads() -> FastReads:
    operations = cast("Any", SimpleNamespace(storage=None, sendfile=None))
    return FastReads(operations, cast("Any", None), longest_target=8192, cache_bytes=0)


def line(name: str) -> Line:
    path = ImagePath(name)
    key = StorageKey.of_image(path)
    return Line("GET", path, key, StoredImage(key, 5, '"e"', 0, "image/png", None, "s"))


def test_answers_to_conditions_that_clients_make_up_are_forgotten_in_turn() -> None:
    known, lines = reads(), [line(f"{number}.png") for number in range(2000)]
    tracemalloc.start()

    for one in lines:
        for number in range(8):
            conditions = (f'"{number}' + "x" * 3500 + '"', one.path.text)
            known._remember(one, conditions, Answer("get_image", 304, b"head"))
            assert known._known_answer(one, conditions) is not None

    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 16 * MIB


def test_an_answer_to_a_condition_is_of_one_save() -> None:
    known, one = reads(), line("a.png")
    known._remember(one, ('"e"',), Answer("get_image", 304, b"head"))
    assert known._known_answer(one, ('"e"',)) is not None

    one.use(line("a.png").image)

    assert known._known_answer(one, ('"e"',)) is None
    assert known._known_answer(one, ('"f"',)) is None
