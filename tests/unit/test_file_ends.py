"""What is kept of an upload's bytes as they pass, for those who look for its facts."""

import random
import tracemalloc

import pytest

from stillroom.features.search.file_ends import HEAD_BYTES, TAIL_BYTES, UploadEnds
from stillroom.formats.file_parts import FileParts, MoreNeeded
from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage

IMAGE = StoredImage(StorageKey("compute/a.png"), 1, '"a"', 1, "image/png", None, "id")
DATA = random.Random(1).randbytes(TAIL_BYTES + 2 * HEAD_BYTES)


@pytest.mark.parametrize("step", [2, 997, HEAD_BYTES, 100_000, len(DATA)])
@pytest.mark.parametrize(
    "size", [0, 1, HEAD_BYTES, HEAD_BYTES + 1, TAIL_BYTES, TAIL_BYTES + 1, len(DATA)]
)
def test_both_ends_are_kept_and_of_a_small_file_all(size: int, step: int) -> None:
    data = DATA[:size]
    seen: list[tuple[StoredImage, FileParts]] = []
    ends = UploadEnds(lambda *saved: seen.append(saved))
    for start in range(0, size, step):
        ends.passed(data[start : start + step])

    ends.saved(IMAGE)

    [(image, passed)] = seen
    assert image is IMAGE
    assert passed.held == (size if size <= TAIL_BYTES else HEAD_BYTES + TAIL_BYTES)
    for start, end in ((0, min(size, HEAD_BYTES)), (max(0, size - TAIL_BYTES), size)):
        assert passed.bytes_at(start, end - start) == data[start:end]
    if size > HEAD_BYTES + TAIL_BYTES:
        with pytest.raises(MoreNeeded):
            passed.bytes_at(HEAD_BYTES, 1)


def test_many_small_pieces_take_no_more_memory_than_their_bytes() -> None:
    ends = UploadEnds(lambda *_: None)
    tracemalloc.start()
    try:
        for start in range(0, len(DATA), 2):
            ends.passed(DATA[start : start + 2])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 2 * (HEAD_BYTES + TAIL_BYTES)
