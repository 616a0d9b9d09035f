"""Purge feature: when images are deleted, the CDN is told to drop its copies (purges)."""

import functools
import itertools
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stillroom.features.database.database import RowsOf, rows_of
from stillroom.features.database.feature import DatabaseFeature
from stillroom.features.purge.settings import PurgeConfig, PurgeSettings
from stillroom.store.background import REPORT_S, Job, Stopping
from stillroom.store.feature import Feature, Store
from stillroom.store.json_posts import JsonPosts

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.purge.rows import Purge, PurgeRows

# Limits of Cloudflare's free plan: 100 URLs in a request, and 800 in a second
# (https://developers.cloudflare.com/cache/how-to/purge-cache/).
_MAX_URLS: Final = 100
_PACE_S: Final = 1 / 8  # pause between two requests

_POLL_S: Final = 1.0
_THROTTLED: Final = timedelta(seconds=2)  # pause after a 429 without Retry-After

purge_rows: "RowsOf[PurgeRows]" = rows_of("stillroom.features.purge.rows.PurgeRows")

log = logging.getLogger("stillroom.media")


class PurgeFeature(Feature):
    """Purges, if they are configured. Transactions queue them, and a job sends them to the CDN."""

    def __init__(self, store: Store) -> None:
        database = store.need(DatabaseFeature).database
        section = store.settings.section(PurgeSettings)
        self._config, self._database = section.purges, database
        self._warnings = section.purge_warnings
        self._count: Callable[[str | None], None] = lambda _: None
        self._report: Callable[[int, timedelta], None] = lambda _number, _oldest: None
        if store.is_counted:
            from stillroom.features.purge import metrics

            self._count, self._report = metrics.count_request, metrics.report_waiting
        if self._config is not None:
            self._posts = JsonPosts(self._config.api_url)
            database.on_connect.append(functools.partial(_queue_purges, self._config))

    def jobs(self) -> Iterable[Job]:
        """Return the job that sends purges, and the jobs that report metrics."""
        if self._config is None:
            return []
        reporting = Job(self._report_on, is_report=True), Job(self._report_on, max_pause_s=REPORT_S)
        return [Job(self._purge, max_pause_s=_POLL_S, at_once=True), *reporting]

    async def _report_on(self, _: Stopping) -> None:
        self._report(*await (await purge_rows(self._database)).waiting())

    async def _purge(self, stopping: Stopping) -> None:
        rows, claim, pause_s = await purge_rows(self._database), uuid.uuid4(), 0.0
        while not await stopping.within(pause_s):
            claimed = sorted(await rows.claim(claim, limit=_MAX_URLS), key=_group_of)
            if not claimed:
                break
            pause_s = _PACE_S
            for _, group in itertools.groupby(claimed, _group_of):
                pause_s = max(pause_s, await self._send(rows, claim, [*group]))

    async def _send(self, rows: "PurgeRows", claim: uuid.UUID, purges: Sequence["Purge"]) -> float:
        """Purge URLs and record the result. Return the pause before the next request in seconds."""
        assert self._config is not None  # noqa: S101  (see `jobs`)
        attempt = await self._posts.send(*self._config.request([purge.url for purge in purges]))
        self._count(attempt.result)
        if attempt.is_delivered:
            await rows.settle(claim, purges)
            return 0
        pause = attempt.retry_after
        if attempt.status == HTTPStatus.TOO_MANY_REQUESTS:
            pause = pause or _THROTTLED
        dead = await rows.postpone(claim, purges, attempt.detail, pause)
        (host, _), number = _group_of(purges[0]), len(purges)
        log.warning("cannot purge %d URLs of %s, will retry: %s", number, host, attempt.detail)
        if dead:
            message = "gave up purging %d URLs of %s: see `stillroom media dead-letters`"
            log.critical(message, dead, host)
        return max(_POLL_S, (pause or timedelta()).total_seconds())

    def warnings(self) -> Iterable[str]:
        """Return a warning if purges are configured, but are not sent."""
        return self._warnings

    async def close(self) -> None:
        """Close the connections to the API."""
        if self._config is not None:
            await self._posts.close()


def _group_of(purge: "Purge") -> tuple[str, int]:
    # A host that is not in the zone must not prevent the purges of other hosts.
    return urlsplit(purge.url).netloc, purge.attempts


def _queue_purges(config: PurgeConfig, engine: "RowsEngine") -> None:
    from stillroom.features.purge.rows import PURGE, add_purges, restore_purge

    engine.hooks.stale.append(functools.partial(add_purges, config))
    engine.hooks.retries[PURGE] = restore_purge
