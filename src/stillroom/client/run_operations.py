"""Requests that operate on runs (folders of images published together), and the responses."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote, urlencode

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer
from stillroom.client.values import DeletedRun, PublishedRun, RunImage, RunInfo
from stillroom.errors import InvalidPath
from stillroom.paths import ImagePath, ImagePrefix

T = TypeVar("T")

RUNS: Final = "/storage/runs"

RunState = Literal["published", "open"]

Sort = Literal["folder", "published", "-published"]

RUNS_A_PAGE: Final = 250

BY_TIME: Final = 10_000
"""Page size of a listing of runs that is sorted by time, for which the server returns only one
page."""


def runs_query(prefix: str, state: RunState | None, sort: Sort) -> str:
    """Return the query string for the first page of a listing of runs. See `ImageStore.runs`."""
    given = {"prefix": ImagePrefix.parse(prefix).text, "sort": sort, "limit": str(RUNS_A_PAGE)}
    if sort != "folder":
        given["limit"] = str(BY_TIME)
    if state is not None:
        given["state"] = state
    return "?" + urlencode(given, quote_via=quote, safe="")


def run_target(folder: ImagePath) -> str:
    """Return the target (path) of the HTTP requests that operate on the run in a folder."""
    return f"{RUNS}/{folder.quoted()}"


def listed_run(entry: Any, prefix: str) -> RunInfo:  # noqa: ANN401  (JSON)
    """Convert an entry of a listing of runs, whose folders must begin with `prefix`."""
    run = _read(RunInfo, entry, "listing runs")
    _check(f"{run.folder}/", prefix)  # prefix `generations/7/` matches run `generations/7`
    return run


def run_of(answer: Answer, folder: ImagePath) -> PublishedRun:
    """Return the run, with its images, from a response."""
    said = answers.document(answer, folder.text)
    known = _read(RunInfo, said, folder.text)
    images = said.get("images")
    if not isinstance(images, list):
        raise UnexpectedAnswer(f"{folder.text}: the server returned a run without a list of images")
    found = [_read(RunImage, image, folder.text) for image in images]
    for image in found:
        _check(image.path, f"{folder.text}/")
    return PublishedRun(known.folder, known.state, known.published_at, len(found), found)


def deleted_run(answer: Answer, folder: ImagePath) -> DeletedRun:
    """Parse the response to a DELETE request for a run."""
    return _read(DeletedRun, answers.document(answer, folder.text), folder.text)


def _check(path: str, prefix: str) -> None:
    try:
        answers.listed_path(path, prefix)
    except (AttributeError, InvalidPath) as error:
        raise UnexpectedAnswer(f"the server returned an invalid path: {error}") from error


def _read(kind: type[T], said: Mapping[str, Any], subject: str) -> T:
    try:
        return answers.decode(kind, said)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(
            f"{subject}: the server returned an invalid run: {error!r}"
        ) from error
