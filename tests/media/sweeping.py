"""The promises of the sweeper, one test each, in a class for each subject.

On the pairs of `conftest.py`: on two of them, and on all four where a test is marked `pairs`.
"""

from datetime import timedelta

from media.library import GRACE, LONG_AGO, Library, bury_by_hand, key, left_copy, make_due
from media.sweeping_failures import FailuresContract
from media.sweeping_marks import MarksContract
from media.sweeping_together import SweepersContract
from pictures import picture


class SweepingContract(MarksContract, SweepersContract, FailuresContract):
    """Subclass this, in a file that pytest collects."""

    async def test_the_numbers_say_what_waits(self, library: Library) -> None:
        rows = await library.database.rows()
        empty = await rows.queue_metrics()
        assert (empty.marks, empty.due, empty.oldest_due) == (0, 0, timedelta(0))
        await library.save("a.png", picture())
        await left_copy(library)
        await library.ingest("a.png")
        bury_by_hand(library, key("x.png"), "x")
        assert (await rows.queue_metrics()).due == 0
        make_due(library)

        metrics = await rows.queue_metrics()

        assert (metrics.marks, metrics.due, metrics.intents, metrics.dead_letters) == (1, 1, 1, 1)
        assert LONG_AGO <= metrics.oldest_due < LONG_AGO + GRACE

    async def test_what_is_due_is_listed_in_pages(self, library: Library) -> None:
        rows = await library.database.rows()
        for number in range(3):
            await library.save(f"{number}.png", picture())
            await library.ingest(f"{number}.png")
        assert [page async for page in rows.deletions.due(limit=9)] == []
        make_due(library)

        pages = [page async for page in rows.deletions.due(limit=2)]

        assert [len(page) for page in pages] == [2, 1]
        assert sorted(mark.storage_key.text for page in pages for mark in page) == [
            f"compute/{number}.png" for number in range(3)
        ]
