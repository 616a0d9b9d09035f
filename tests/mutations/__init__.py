"""Faults, planted one by one into a copy of the tree: does the suite find each?

`make mutations` runs it, after a change of how tests are chosen, marked or shared. Each fault is
small, would be noticed by a client or after a crash, and stands in one place. The tests beside it
are where it should be found: they pass without it, and at least one fails with it.

A text that is not in its file (or is there twice) is an error and no result: then the code has
changed, and the fault must be put into the new code.

    python -m mutations                 all of them
    python -m mutations walk lock       those with one of these words in their names
    python -m mutations --tree OTHER    with the tests of another checkout, to compare
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mutations import auth, client, events, http, media, runs, search, server, storage, webhooks
from mutations.fault import Fault

ROOT: Final = Path(__file__).parents[2]
_ROOMS: Final = (storage, media, runs, search, events, webhooks, auth, server, http, client)


def chosen(words: Sequence[str] = ()) -> Iterator[Fault]:
    """Yield the faults with one of the words in their names, or all of them without words."""
    for room in _ROOMS:
        for fault in room.FAULTS:
            if not words or any(word in fault.name for word in words):
                yield fault
