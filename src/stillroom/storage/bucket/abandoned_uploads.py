"""Abort abandoned multipart uploads, as soon as the bucket can be reached.

Parts cost room until their upload is aborted. What a dead process leaves is the
business of the bucket's lifecycle rule (docs/r2.md); what this one knows of, it removes itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from stillroom.errors import StillroomError
from stillroom.storage.objectstore import DEADLINE_S, ObjectStore

_MAX: Final = 1000
"""Uploads remembered; more are left to the lifecycle rule."""

_AT_ONCE: Final = 4
"""Requests that these may take from those who save and read."""

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0

log = logging.getLogger("stillroom.r2")


class AbandonedUploads:
    """Aborts in the background, again and again until they succeed or the process ends."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self._doubted: set[str] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._closing = asyncio.Event()

    def abort(self, key: str, upload_id: str) -> None:
        """Throw the parts of an upload away; one that is over already is fine."""

        async def once() -> None:
            await self._abort(key, upload_id)

        self._start(key, once)

    def doubt(self, key: str) -> None:
        """The answer to a beginning was lost: there may be an upload whose id is unknown.

        Nothing tells whose an upload is. But a writer that begins one sends its first part at once,
        within `DEADLINE_S`; so one that was there twice that time ago, and has no part yet, is
        abandoned.
        """
        if key in self._doubted:
            return

        async def once() -> None:
            suspects = await self._uploads_of(key)
            if suspects and await self._sleep(2 * DEADLINE_S):
                for upload_id in suspects & await self._uploads_of(key):
                    if not await self._has_parts(key, upload_id):
                        await self._abort(key, upload_id)
            self._doubted.discard(key)

        self._doubted.add(key)
        self._start(key, once)

    def _start(self, key: str, once: Callable[[], Awaitable[None]]) -> None:
        if self._closing.is_set() or len(self._tasks) >= _MAX:
            log.warning("no more uploads can be aborted: parts of %r stay in the bucket", key)
            return
        task = asyncio.ensure_future(self._persist(key, once))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _persist(self, key: str, once: Callable[[], Awaitable[None]]) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await once()
            except StillroomError as error:
                log.warning("parts of %r stay in the bucket: %s (%r)", key, error, error.__cause__)
            else:
                return
            if not await self._sleep(min(pause_s, _LONGEST_PAUSE_S)):
                return
            pause_s *= 2

    async def _sleep(self, seconds: float) -> bool:
        """Wait; False as soon as there is no time left to."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return True
        return False

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
        """Give what is under way one deadline more; the rest stays for the lifecycle rule."""
        self._closing.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DEADLINE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        # A host application may start its router again, in another event loop.
        self._slots, self._closing = asyncio.Semaphore(_AT_ONCE), asyncio.Event()
