"""Downloads of many images in one ZIP file: requests, retries and checks, without I/O."""

import zipfile
from collections.abc import Iterable
from dataclasses import replace
from typing import IO, Final, Literal
from urllib.parse import quote, urlencode

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Failure, Flow
from stillroom.client.operations import image_progress, json_call
from stillroom.client.retries import Attempts, Retries
from stillroom.client.sinks import Sink
from stillroom.client.sources import named
from stillroom.client.values import OnProgress
from stillroom.errors import BackendUnavailable
from stillroom.paths import ImagePath, ImagePrefix

Sidecars = Literal["captions"]
"""Kind of files that are added to an archive: `captions` are text files with the prompts."""

ARCHIVE_NAME: Final = ImagePath("images.zip")
"""Name of the ZIP file if the target of the download is a folder."""

_ARCHIVE: Final = "/storage/archive"
_MAX_BREAKS: Final = 3
"""Number of interrupted responses after which the download of an archive fails."""


def archive(
    retries: Retries,
    images: str | Iterable[str],
    sidecars: Sidecars | None,
    sink: Sink,
    progress: OnProgress | None,
) -> Flow[None]:
    """Download a ZIP file with images to `sink`. If interrupted, restart from the beginning."""
    call, subject = _archive_call(images, sidecars)
    call = replace(call, sink=sink, progress=image_progress(progress, subject))
    attempts, breaks = Attempts(retries), 0
    while True:
        outcome = yield attempts.prepared(call)
        assert outcome is not None  # noqa: S101  (senders respond to calls)
        if isinstance(outcome, Failure) and outcome.head is not None:
            breaks += 1
            if breaks == _MAX_BREAKS:
                raise BackendUnavailable(
                    f"{subject}: the download was interrupted {breaks} times: the server's log "
                    "says which image could not be read"
                ) from outcome.error
        wait = attempts.wait_after(outcome)
        if wait is not None:
            yield wait
        elif isinstance(outcome, Answer):
            if outcome.status != 200:
                raise answers.refused(outcome, subject)
            return


def check_archive(file: IO[bytes]) -> None:
    """Raise `UnexpectedAnswer` if a ZIP file is incomplete.

    A proxy may hide from the client that the response was interrupted.
    """
    if file.seekable() and file.readable() and not zipfile.is_zipfile(file):
        raise UnexpectedAnswer("the received archive is incomplete: try again")


def _archive_call(images: str | Iterable[str], sidecars: Sidecars | None) -> tuple[Call, str]:
    if isinstance(images, str):
        given = {"prefix": ImagePrefix.parse(images).text}
        if sidecars is not None:
            given["sidecars"] = sidecars
        query = urlencode(given, quote_via=quote, safe="")
        return Call("GET", f"{_ARCHIVE}?{query}"), images or "all images"
    paths = [named(path).text for path in images]
    return json_call("POST", _ARCHIVE, {"paths": paths, "sidecars": sidecars}), "the archive"
