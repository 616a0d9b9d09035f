"""Detection of changes in `webhooks.toml`, so that no restart is necessary."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from stillroom.errors import ConfigurationError
from stillroom.features.events.webhook_file import WebhookFile, read_webhooks

log = logging.getLogger("stillroom.events")


class WatchedWebhooks:
    """Endpoints of `webhooks.toml`, which is read again whenever the file or a secret changes.

    If a changed file is invalid, the error is logged and the previous endpoints remain in use.
    """

    def __init__(self, file: Path, *, is_named: bool) -> None:
        """Read the file. Raise `ConfigurationError` if it is invalid. See `read_webhooks`."""
        self.file = file
        self._is_named = is_named
        self.content = WebhookFile()
        self.content = read_webhooks(file, is_named=is_named)
        self._versions = self._read_versions()

    def reload(self) -> bool:
        """Read the file if it has changed. Return whether there are new endpoints or secrets."""
        versions = self._read_versions()
        if versions == self._versions:
            return False
        self._versions = versions
        try:
            content = read_webhooks(self.file, is_named=self._is_named)
        except ConfigurationError as error:
            log.error("the webhooks stay as they were, because the new file is invalid: %s", error)  # noqa: TRY400  (the message names the line)
            return False
        if content == self.content:
            return False
        self.content = content
        self._versions = self._read_versions()  # there may be other files with secrets
        log.info("read %s: webhooks to %s", self.file, ", ".join(content.endpoints) or "none")
        for warning in content.warnings:
            log.warning("%s", warning)
        return True

    def _read_versions(self) -> Sequence[tuple[int, ...] | None]:
        return [_version_of(file) for file in (self.file, *self.content.secret_files)]


def _version_of(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode
