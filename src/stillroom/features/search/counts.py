"""Table `search_counts`: numbers of images with each model, sampler, tool, LoRA and day.

Each transaction that adds or removes rows of `search_images` also changes the counts. After an
upgrade or a rebuild of the index, the existing rows are counted in pages, in the order of their
ids. Until all rows are counted, the row `_COUNTED_TO` contains the id of the last counted row, and
changes of rows with a larger id do not change the counts.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import sqlalchemy as sa

from stillroom.features.database.statements import insert_into
from stillroom.features.search.tables import MAX_VALUE, lock_index, search_counts, search_images
from stillroom.features.search.words import facet
from stillroom.paths import COMPUTE_PREFIX
from stillroom.wire.facets import COUNTED_KINDS

COUNTED: Final = tuple(
    search_images.c[name] for name in ("id", "storage_key", "saved_ns", "generation")
)
"""Columns that are needed to count a row."""

Counted = tuple[int, str, int, Mapping[str, Any] | None]  # values of `COUNTED`

DAY_NS: Final = 86_400 * 10**9
_COUNTED_TO: Final = "counted"
_EPOCH: Final = date(1970, 1, 1).toordinal()


def count_changes(
    connection: sa.Connection, added: Iterable[Counted], removed: Iterable[Counted]
) -> None:
    """Change the counts for added and removed rows of `search_images`. The index must be locked."""
    rows = [(1, *row) for row in added] + [(-1, *row) for row in removed]
    if rows:
        last = counted_to(connection)
        _change(connection, [row for row in rows if last is None or row[1] <= last])


def read_counted(connection: sa.Connection, statement: sa.Executable) -> Sequence[Counted]:
    """Execute a statement that returns the columns `COUNTED`, and decode the metadata."""
    rows = connection.execute(statement)
    return [(id_, key, ns, facts and json.loads(facts)) for id_, key, ns, facts in rows]


def count_next(connection: sa.Connection, limit: int) -> bool:
    """Count the next `limit` uncounted rows. Return whether there may be more uncounted rows."""
    lock_index(connection)
    last = counted_to(connection)
    if last is None:
        return False
    rest = sa.select(*COUNTED).where(search_images.c.id > last).order_by(search_images.c.id)
    rows = read_counted(connection, rest.limit(limit))
    _change(connection, [(1, *row) for row in rows])
    own = search_counts.c.word == _COUNTED_TO
    if len(rows) < limit:
        connection.execute(sa.delete(search_counts).where(own))
        return False
    connection.execute(sa.update(search_counts).where(own).values(images=rows[-1][0]))
    return True


def count_again(connection: sa.Connection) -> None:
    """Delete all counts. `count_next` then counts all rows again."""
    lock_index(connection)
    connection.execute(sa.delete(search_counts))
    first = {"word": _COUNTED_TO, "kind": "", "value": "", "images": -1}
    connection.execute(sa.insert(search_counts).values(first))


def counted_to(connection: sa.Connection) -> int | None:
    """Return the id of the last row that was counted, or None if all are counted."""
    last = sa.select(search_counts.c.images).where(search_counts.c.word == _COUNTED_TO)
    return connection.execute(last).scalar()


def sum_by_word(
    rows: Iterable[tuple[int, int, Mapping[str, Any]]],
) -> dict[str, tuple[str, str, int]]:
    """Sum the numbers of images for each value. Return kind, value and sum for each index word.

    A row has a number of images, their day (counted from 1970-01-01) and generation metadata. Kinds
    are `model` and the like. Values that differ only in case have the same index word.
    """
    groups, values = Counter[tuple[Any, ...]](), Counter[tuple[str, str | None]]()
    for number, day, facts in rows:
        groups[day, facts.get("model"), facts.get("sampler"), facts.get("tool")] += number
        if loras := facts.get("loras"):
            names = [lora["name"][:MAX_VALUE] for lora in loras]
            for name in {name.casefold(): name for name in names}.values():
                values["lora", name] += number
    for (day, *names), number in groups.items():
        values["day", date.fromordinal(_EPOCH + day).isoformat()] += number
        for kind, name in zip(("model", "sampler", "tool"), names, strict=True):
            values[kind, name] += number
    sums = dict[str, tuple[str, str, int]]()
    for (kind, value), number in values.items():
        if value:
            word = facet(kind, value[:MAX_VALUE])
            _, text, before = sums.get(word, ("", value[:MAX_VALUE], 0))
            sums[word] = kind, text, before + number
    return sums


def _change(connection: sa.Connection, rows: Sequence[tuple[int, *Counted]]) -> None:
    sums = sum_by_word(
        (sign, saved_ns // DAY_NS, facts or {})
        for sign, _, key, saved_ns, facts in rows
        if key.startswith(COMPUTE_PREFIX)
    )
    names = search_counts.c.keys()
    changed = [dict(zip(names, (word, *row), strict=True)) for word, row in sums.items() if row[2]]
    if changed:
        new = insert_into(connection, search_counts)
        images = search_counts.c.images + new.excluded.images
        new = new.on_conflict_do_update(index_elements=["word"], set_={"images": images})
        connection.execute(new, changed)
    if any(number < 0 for _, _, number in sums.values()):
        unused = search_counts.c.kind.in_(COUNTED_KINDS), search_counts.c.images <= 0
        connection.execute(sa.delete(search_counts).where(*unused))
