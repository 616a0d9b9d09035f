"""Operations on runs (folders of images that are published together), without I/O."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote, urlencode

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Call, Flow
from stillroom.client.operations import json_call
from stillroom.client.retries import Attempts, Retries, persistently
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
    """Return the query string for the first page of a listing of runs.

    Args:
        prefix: Prefix of the folders of the runs.
        state: State of the runs; None for all runs.
        sort: Sort order.

    Raises:
        InvalidPath: No folder can begin with `prefix`.
    """
    given = {"prefix": ImagePrefix.parse(prefix).text, "sort": sort, "limit": str(RUNS_A_PAGE)}
    if sort != "folder":
        given["limit"] = str(BY_TIME)
    if state is not None:
        given["state"] = state
    return "?" + urlencode(given, quote_via=quote, safe="")


def page_of_runs(
    retries: Retries, prefix: str, query: str
) -> Flow[tuple[list[RunInfo], str | None]]:
    """Return a page of runs in folders that begin with `prefix`, and the next query or None."""
    answer = yield from persistently(Call("GET", RUNS + query), Attempts(retries))
    entries, more = answers.listed(answer, "listing runs")
    runs = [_read(RunInfo, entry, "listing runs") for entry in entries]
    for run in runs:
        _check(f"{run.folder}/", prefix)  # prefix `generations/7/` matches run `generations/7`
    return runs, more


def publish(retries: Retries, folder: ImagePath, expected: int | None) -> Flow[PublishedRun]:
    """Publish a run. The request is idempotent, so it can be retried."""
    call = json_call("POST", f"{_target(folder)}/publish", {"expected": expected})
    answer = yield from persistently(call, Attempts(retries))
    return _run(answers.document(answer, folder.text), folder)


def read(retries: Retries, folder: ImagePath) -> Flow[PublishedRun]:
    """Return a run with the images in its manifest or, if it is not published, in its folder."""
    answer = yield from persistently(Call("GET", _target(folder)), Attempts(retries))
    return _run(answers.document(answer, folder.text), folder)


def delete(retries: Retries, folder: ImagePath) -> Flow[DeletedRun]:
    """Delete a run. The server resumes the deletion if it is interrupted."""
    answer = yield from persistently(Call("DELETE", _target(folder)), Attempts(retries))
    return _read(DeletedRun, answers.document(answer, folder.text), folder.text)


def _target(folder: ImagePath) -> str:
    return f"{RUNS}/{folder.quoted()}"


def _run(said: Any, folder: ImagePath) -> PublishedRun:  # noqa: ANN401  (JSON)
    known = _read(RunInfo, said, folder.text)
    images = said.get("images")
    if not isinstance(images, list):
        raise UnexpectedAnswer(f"{folder.text}: the server returned a run without a list of images")
    found = [_read(RunImage, image, folder.text) for image in images]
    for image in found:
        _check(image.path, f"{folder.text}/")
    return PublishedRun(known.folder, known.state, known.published_at, len(found), found)


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
