"""Record of completed grants, each with the response to its completion.

The record prevents a second completion of a grant whose image was replaced or deleted later.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, Final

from stillroom.features.grants.grant import KEPT_S, UploadGrant

_PAUSE_S: Final = 0.1  # between attempts to lock a grant, because waiting would block a thread

log = logging.getLogger("stillroom.media")


class CompletedGrants:
    """Folder with one file per grant, named by the grant's id. All processes share it.

    The modification time of a file is the expiration of its grant. A file is empty until the grant
    is completed. `add` and `sweep` do disk I/O, so call them in a thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.asynccontextmanager
    async def hold(self, grant: UploadGrant) -> AsyncIterator[dict[str, object] | None]:
        """Lock a grant during the block, so that other requests on this machine wait.

        Yield the response to an earlier completion, or None if there was none. Errors of the disk
        are only logged, since another machine could complete the grant in any case.
        """
        with contextlib.ExitStack() as opened:
            try:
                file = opened.enter_context(await asyncio.to_thread(self._open, grant))
                while not _try_lock(file):  # noqa: ASYNC110  (other processes unlock it)
                    await asyncio.sleep(_PAUSE_S)
            except OSError as error:
                log.warning("cannot lock an upload grant while it is completed: %s", error)
            yield await asyncio.to_thread(self._find, grant)

    def _open(self, grant: UploadGrant) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (self._folder / grant.id).open("ab")
        os.utime(file.fileno(), (grant.expires_at, grant.expires_at))
        return file

    def add(self, grant: UploadGrant, saved: Mapping[str, object]) -> None:
        """Store the response to a completion. Errors are only logged, since the image is saved."""
        file = self._folder / f"{grant.id}-{secrets.token_hex(8)}"
        try:
            file.write_text(json.dumps(saved))
            os.utime(file, (grant.expires_at, grant.expires_at))
            file.replace(self._folder / grant.id)
        except OSError as error:
            log.warning("cannot remember that an upload grant was completed: %s", error)

    def _find(self, grant: UploadGrant) -> dict[str, object] | None:
        with contextlib.suppress(OSError, ValueError):
            response: dict[str, object] = json.loads((self._folder / grant.id).read_bytes())
            return response
        return None

    def sweep(self) -> None:
        """Delete the files of grants whose completion can no longer be repeated."""
        for file in self._folder.glob("*"):
            with contextlib.suppress(OSError):  # also: another process has deleted the file
                if file.stat().st_mtime + KEPT_S < time.time():
                    file.unlink(missing_ok=True)


def _try_lock(file: IO[bytes]) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
