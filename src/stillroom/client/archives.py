"""A ZIP file of many images, as the request that it takes and what its answer means. No I/O."""

import zipfile
from collections.abc import Iterable
from dataclasses import replace
from typing import IO, Final, Literal
from urllib.parse import quote, urlencode

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Failure, Flow
from stillroom.client.operations import posting
from stillroom.client.retries import Attempts, Retries
from stillroom.client.sinks import Sink
from stillroom.client.sources import named
from stillroom.client.values import OnProgress, Progress
from stillroom.errors import BackendUnavailable
from stillroom.paths import ImagePath, ImagePrefix

Sidecars = Literal["captions"]
"""What stands beside images: texts with their prompts."""

ARCHIVE_NAME: Final = ImagePath("images.zip")
"""Of an archive that is downloaded to a folder."""

_ARCHIVE: Final = "/storage/archive"
_MAX_BREAKS: Final = 3
"""So often the answer may break off; a file of the server's may be beyond reading."""


def archive(
    retries: Retries,
    images: str | Iterable[str],
    sidecars: Sidecars | None,
    sink: Sink,
    progress: OnProgress | None,
) -> Flow[None]:
    """Fill the sink with a ZIP; one that breaks off is begun again."""
    call, subject = _asking(images, sidecars)
    if progress is not None:
        call = replace(call, progress=lambda n, total: progress(Progress(subject, n, total)))
    call = replace(call, sink=sink)
    attempts, breaks = Attempts(retries), 0
    while True:
        outcome = yield attempts.prepared(call)
        assert outcome is not None  # noqa: S101  (what a call is answered with)
        if isinstance(outcome, Failure) and outcome.head is not None:
            breaks += 1
            if breaks == _MAX_BREAKS:
                raise BackendUnavailable(
                    f"{subject}: the archive broke off {breaks} times: the server's log says which "
                    "image cannot be read"
                ) from outcome.error
        wait = attempts.wait_after(outcome)
        if wait is not None:
            yield wait
        elif isinstance(outcome, Answer):
            if outcome.status != 200:
                raise answers.refused(outcome, subject)
            return


def check_archive(file: IO[bytes]) -> None:
    """Return if a file has the end of a ZIP; a proxy may have hidden that the answer broke off.

    Raises:
        UnexpectedAnswer: it has none.
    """
    if file.seekable() and file.readable() and not zipfile.is_zipfile(file):
        raise UnexpectedAnswer("the archive that came is cut off: try again")


def _asking(images: str | Iterable[str], sidecars: Sidecars | None) -> tuple[Call, str]:
    if isinstance(images, str):
        given = {"prefix": ImagePrefix.parse(images).text}
        if sidecars is not None:
            given["sidecars"] = sidecars
        query = urlencode(given, quote_via=quote, safe="")
        return Call("GET", f"{_ARCHIVE}?{query}"), images or "all images"
    paths = [named(path).text for path in images]
    return posting(_ARCHIVE, {"paths": paths, "sidecars": sidecars}), "the archive"
