"""Counts of all images, or of the images that match a query, by model, sampler and so on."""

import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import islice
from json import loads
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.engine import Rows
from stillroom.features.database.scans import ScanRows
from stillroom.features.database.statements import table_of
from stillroom.features.search.counts import (
    DAY_NS,
    count_again,
    count_next,
    counted_to,
    sum_by_word,
)
from stillroom.features.search.rows import SearchRows
from stillroom.features.search.tables import search_counts, search_images
from stillroom.features.search.values import COUNTS_SCAN, SearchQuery
from stillroom.paths import COMPUTE_PREFIX, KeyPrefix
from stillroom.wire.facets import COUNTED_KINDS, FacetCount, Facets

_NAMES: Final = ("model", "sampler", "tool", "loras")  # members of the generation metadata
_MAX_VALUES: Final = 200
_MAX_DAYS: Final = 366
_MAX_MATCHES: Final = 10_000
_PAGE: Final = 1000  # rows, which take about 20 ms
_LEASE: Final = timedelta(minutes=5)
_EVERYTHING: Final = SearchQuery(prefix=KeyPrefix(COMPUTE_PREFIX))


class CountRows(Rows):
    """Database access to the counts of the search index."""

    async def facets(self, query: SearchQuery, *, with_tags: bool) -> Facets:
        """Count matching images by model, day and so on. If `with_tags`, also count them by tag."""
        found: sa.Subquery | None = None
        async with self._engine.reading() as connection:
            if replace(query, sees_library=True) == _EVERYTHING:
                counts, is_complete = await self._read_counts(connection)
            else:
                query = replace(query, limit=_MAX_MATCHES)
                index, columns = SearchRows(self._engine), _columns(self._engine.is_sqlite)
                rows = await index.page_rows(connection, query, *columns)
                is_complete = len(rows) <= _MAX_MATCHES
                counts = _count(rows[:_MAX_MATCHES])
                ids = table_of(connection, ["id"], ([str(row.id)] for row in rows[:_MAX_MATCHES]))
                found = sa.select(sa.cast(ids.c.id, sa.BigInteger).label("id")).subquery()
        tagged = None
        if with_tags and self._engine.hooks.tags is not None:
            # In another transaction, because a phrase search restricts the planner (`allow`).
            async with self._engine.reading() as connection:
                tagged = await connection.run_sync(self._engine.hooks.tags, found, _MAX_VALUES)
        days = counts.pop("day")
        return Facets(
            **{kind: _listed(named.items(), _MAX_VALUES) for kind, named in counts.items()},
            day=[FacetCount(*day) for day in sorted(days.items(), reverse=True)[:_MAX_DAYS]],
            counted=sum(days.values()),
            complete=is_complete,
            tag=None if tagged is None else _listed(tagged, _MAX_VALUES),
        )

    async def _read_counts(
        self, connection: AsyncConnection
    ) -> tuple[dict[str, dict[str, int]], bool]:
        counts, columns = dict[str, dict[str, int]](), search_counts.c
        for kind in COUNTED_KINDS:
            rows = sa.select(columns.value, columns.images).where(columns.kind == kind)
            if kind != "day":
                rows = rows.order_by(columns.images.desc()).limit(_MAX_VALUES)
            counts[kind] = {row.value: row.images for row in await connection.execute(rows)}
        return counts, await connection.run_sync(counted_to) is None

    async def reset(self) -> None:
        """Delete all counts. `catch_up` then counts all rows again."""
        await self._engine.rewrite(count_again)

    async def catch_up(
        self, scans: ScanRows, stops_within: Callable[[float], Awaitable[bool]]
    ) -> None:
        """Count the rows that are not counted yet, unless another process does so.

        `stops_within` waits after each page. If it returns True, only the next call resumes.
        """

        async def pages(claim: uuid.UUID, _: str) -> AsyncGenerator[float, None]:
            began = time.monotonic()
            while await self._engine.rewrite(partial(count_next, limit=_PAGE)):
                if not await scans.keep(claim, after="", lease=_LEASE):
                    return
                yield time.monotonic() - began
                began = time.monotonic()

        async with self._engine.reading() as connection:
            is_complete = await connection.run_sync(counted_to) is None
        if not is_complete:
            await scans.run(COUNTS_SCAN, pages, stops_within, lease=_LEASE, every=timedelta(0))


def _columns(is_sqlite: bool) -> Sequence[sa.ColumnElement[Any]]:  # noqa: FBT001  (the database)
    images = search_images.c
    generation = sa.func.coalesce(images.generation, "{}")
    names: sa.ColumnElement[str] = sa.func.json_extract(generation, *(f"$.{n}" for n in _NAMES))
    if not is_sqlite:
        typed = (sa.column(name, sa.JSON) for name in _NAMES)
        record = sa.func.json_to_record(sa.cast(generation, sa.JSON)).table_valued(*typed)
        record = record.render_derived(with_types=True)
        listed = sa.select(sa.cast(sa.func.json_build_array(*record.c), sa.Text))
        names = listed.scalar_subquery()
    return images.id, (images.saved_ns // DAY_NS).label("day"), names.label("names")


def _count(rows: Iterable[sa.Row[Any]]) -> dict[str, dict[str, int]]:
    groups = Counter((row.day, row.names) for row in rows)
    sums = sum_by_word(
        (number, day, dict(zip(_NAMES, loads(names), strict=True)))
        for (day, names), number in groups.items()
    )
    counts: dict[str, dict[str, int]] = {kind: {} for kind in COUNTED_KINDS}
    for kind, value, number in sums.values():
        counts[kind][value] = number
    return counts


def _listed(counts: Iterable[tuple[str, int]], limit: int) -> list[FacetCount]:
    frequent = sorted(counts, key=lambda item: (-item[1], item[0]))
    return [FacetCount(value, count) for value, count in islice(frequent, limit)]
