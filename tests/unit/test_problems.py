"""Every error has a status, a body and a code."""

import json
from pathlib import Path

import pytest

from stillroom import errors
from stillroom.errors import StillroomError
from stillroom.store.api.responses import report_disconnect, report_error
from stillroom.store.http.problems import STATUS, problem


def every_subclass(root: type[StillroomError]) -> set[type[StillroomError]]:
    found = {root, *(found for below in root.__subclasses__() for found in every_subclass(below))}
    return {error for error in found if error.__module__ == errors.__name__}  # not the SDK's own


def test_every_error_has_a_row() -> None:
    assert every_subclass(StillroomError) - STATUS.keys() == {StillroomError}


def test_every_code_is_used_once() -> None:
    found = every_subclass(StillroomError)
    assert len({error.code for error in found}) == len(found)


def test_every_code_has_a_row_in_the_documentation() -> None:
    told = (Path(__file__).parents[2] / "docs/api.md").read_text()
    of_http = {error.code for error, status in STATUS.items() if status != 500}
    of_http -= {errors.InvalidInput.code, errors.ImplausibleScan.code}  # none of an operation
    others = {"bug", "method_not_allowed", "route_not_found"}

    assert {code for code in of_http | others if f"`{code}`" not in told} == set()


def test_the_log_shows_a_target_as_text(caplog: pytest.LogCaptureFixture) -> None:
    report_error("get_image", b"/api/v1/storage/images/a%20b", errors.BackendUnavailable("gone"))
    with caplog.at_level("INFO", logger="stillroom.api"):
        report_disconnect("save_image", b"/api/v1/storage/images/c\xff")

    assert [record.getMessage() for record in caplog.records] == [
        "get_image /api/v1/storage/images/a%20b: gone (None)",
        r"save_image /api/v1/storage/images/c\xff: the client disconnected",
    ]


def test_invalid_input_says_where_in_the_shape_that_fastapi_users_know() -> None:
    answer = problem(errors.InvalidParameter("too odd", at=("query", "limit")))

    assert answer.status == 422
    assert json.loads(answer.body) == {
        "detail": [{"loc": ["query", "limit"], "msg": "too odd", "type": "invalid_parameter"}],
        "code": "invalid_parameter",
    }


def test_401_and_503_carry_what_a_client_needs_next() -> None:
    assert ("www-authenticate", "Bearer") in problem(errors.Unauthenticated()).headers
    assert ("retry-after", "5") in problem(errors.BackendUnavailable("x")).headers


def test_no_cache_keeps_that_an_image_is_missing() -> None:
    assert ("cache-control", "no-store") in problem(errors.ImageNotFound()).headers
