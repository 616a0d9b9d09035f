"""Completed grants, each with the response to its completion.

No process completes a grant again, even after its image was replaced or deleted.
"""

import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from stillroom.features.grants.grant import KEPT_S, UploadGrant

log = logging.getLogger("stillroom.media")


class CompletedGrants:
    """Files in a folder that all processes share. Their names are the ids of grants.

    The modification time of a file is the expiration of its grant. All methods block.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, grant: UploadGrant, saved: Mapping[str, object]) -> None:
        """Store the response of a completion. Errors are only logged, since the image is saved."""
        file = self._folder / f"{grant.id}-{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.write_text(json.dumps(saved))
            os.utime(file, (grant.expires_at, grant.expires_at))
            file.replace(self._folder / grant.id)
        except OSError as error:
            log.warning("cannot remember that an upload grant was completed: %s", error)

    def find(self, grant: UploadGrant) -> dict[str, object] | None:
        """Return the response of an earlier completion, or None if there was none."""
        try:
            found: dict[str, object] = json.loads((self._folder / grant.id).read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def sweep(self) -> None:
        """Delete the responses that cannot be repeated any more."""
        for file in self._folder.glob("*"):
            with contextlib.suppress(OSError):  # also: another process has deleted the file
                if file.stat().st_mtime + KEPT_S < time.time():
                    file.unlink(missing_ok=True)
