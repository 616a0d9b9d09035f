"""Requests for many images in one ZIP file, with their retries and checks."""

import zipfile
from collections.abc import Iterable
from typing import IO, Final, Literal
from urllib.parse import quote, urlencode

from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.client.requests import json_call
from stillroom.client.retries import Attempts, Retries
from stillroom.client.sources import named
from stillroom.errors import BackendUnavailable
from stillroom.paths import ImagePath, ImagePrefix

Sidecars = Literal["captions"]
"""Kind of files that are added to an archive: `captions` are text files with the prompts."""

ARCHIVE_NAME: Final = ImagePath("images.zip")
"""Name of the ZIP file if the target of the download is a folder."""

_ARCHIVE: Final = "/storage/archive"
_MAX_BREAKS: Final = 3
"""Number of interrupted responses after which the download of an archive fails."""


class ArchiveAttempts(Attempts):
    """Attempts to download an archive, which always begin anew. At most three are interrupted."""

    def __init__(self, retries: Retries, subject: str) -> None:
        super().__init__(retries)
        self._subject = subject
        self._breaks = 0

    def wait_after(self, outcome: Answer | Failure) -> float | None:
        """See `Attempts.wait_after`.

        Raises:
            BackendUnavailable: The download was interrupted too often.
        """
        if isinstance(outcome, Failure) and outcome.head is not None:
            self._breaks += 1
            if self._breaks == _MAX_BREAKS:
                raise BackendUnavailable(
                    f"{self._subject}: the download was interrupted {self._breaks} times: the "
                    "server's log says which image could not be read"
                ) from outcome.error
        return super().wait_after(outcome)


def check_archive(file: IO[bytes]) -> None:
    """Raise `UnexpectedAnswer` if a ZIP file is incomplete.

    A proxy may hide from the client that the response was interrupted.
    """
    if file.seekable() and file.readable() and not zipfile.is_zipfile(file):
        raise UnexpectedAnswer("the received archive is incomplete: try again")


def archive_call(images: str | Iterable[str], sidecars: Sidecars | None) -> tuple[Call, str]:
    """Return the request for an archive, and a subject for error messages."""
    if isinstance(images, str):
        given = {"prefix": ImagePrefix.parse(images).text}
        if sidecars is not None:
            given["sidecars"] = sidecars
        query = urlencode(given, quote_via=quote, safe="")
        return Call("GET", f"{_ARCHIVE}?{query}"), images or "all images"
    paths = [named(path).text for path in images]
    return json_call("POST", _ARCHIVE, {"paths": paths, "sidecars": sidecars}), "the archive"
