"""Background tasks that abort incomplete multipart uploads, so that the bucket deletes their parts.

After a crash of this process, the bucket's lifecycle rule aborts them instead (docs/r2.md).
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from stillroom.errors import StillroomError
from stillroom.store.background import Stopping
from stillroom.store.objectstore import DEADLINE_S, ObjectStore

_MAX: Final = 1000  # tasks; further uploads are left to the lifecycle rule
_AT_ONCE: Final = 4  # requests, so that connections remain for saves and reads
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0

log = logging.getLogger("stillroom.r2")


class AbandonedUploads:
    """Background tasks that abort multipart uploads, and retry until the process ends."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: set[str] = set()  # keys with an upload whose id is unknown
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._closing = Stopping()

    def abort(self, key: str, upload_id: str) -> None:
        """Start to delete the parts of an upload, if it was neither completed nor aborted."""
        self._start(key, functools.partial(self._abort, key, upload_id))

    def abort_unknown(self, key: str, *, is_shared: bool = True) -> None:
        """Find and abort an upload of `key` whose id was lost with the response to its creation.

        Other processes may upload to the same key, but they send their first part within
        `DEADLINE_S`. So uploads that have no part after twice this time are aborted. If `is_shared`
        is False, no other process uploads to `key`, and `close` aborts the upload without waiting.
        """
        if key in self._unknown:
            return

        async def attempt() -> None:
            suspects = await self._uploads_of(key)
            if suspects and not (await self._closing.within(2 * DEADLINE_S) and is_shared):
                for upload_id in suspects & await self._uploads_of(key):
                    if not await self._has_parts(key, upload_id):
                        await self._abort(key, upload_id)
            self._unknown.discard(key)

        self._unknown.add(key)
        self._start(key, attempt)

    def _start(self, key: str, attempt: Callable[[], Awaitable[None]]) -> None:
        if self._closing.is_set() or len(self._tasks) >= _MAX:
            log.warning(
                "cannot abort the incomplete upload of %r now: its parts stay in the bucket", key
            )
            return
        task = asyncio.ensure_future(self._retry(key, attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _retry(self, key: str, attempt: Callable[[], Awaitable[None]]) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await attempt()
            except StillroomError as error:
                message = "cannot abort the incomplete upload of %r, will retry: %s (%r)"
                log.warning(message, key, error, error.__cause__)
            if await self._closing.within(pause_s):
                return None
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _abort(self, key: str, upload_id: str) -> None:
        async with self._slots:
            await self._store.abort_upload(key, upload_id)

    async def _uploads_of(self, key: str) -> set[str]:
        async with self._slots:
            page = await self._store.list_uploads(key)
        return {upload.upload_id for upload in page.uploads if upload.key == key}

    async def _has_parts(self, key: str, upload_id: str) -> bool:
        async with self._slots:
            return await self._store.has_parts(key, upload_id)

    async def close(self) -> None:
        """Wait up to `DEADLINE_S` for aborts. The bucket's lifecycle rule aborts other uploads."""
        self._closing.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DEADLINE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        # New objects, since a host application may restart its router in another event loop.
        self._slots, self._closing = asyncio.Semaphore(_AT_ONCE), Stopping()
