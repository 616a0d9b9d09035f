"""Pages of other origins: none by default, those that are named, and never with cookies."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from running import IMAGES, Server, running

OURS = "https://app.example.com"


@pytest.fixture(scope="module")
def open_to_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("cors")
    with running(folder, cors_origins=f"{OURS}, http://localhost:3000") as started:
        yield started


def preflight(server: Server, origin: str, method: str = "POST") -> httpx.Response:
    return httpx.options(
        f"{server.images}/a.png",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,if-match,repr-digest,sign-url",
        },
    )


def test_a_named_origin_may_ask_and_read(open_to_one: Server) -> None:
    asked = preflight(open_to_one, OURS)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == OURS
    assert "DELETE" in asked.headers["access-control-allow-methods"]

    with open_to_one.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": b"x"})
        read = client.get(f"{IMAGES}/a.png", headers={"Origin": OURS})
    assert read.headers["access-control-allow-origin"] == OURS
    assert "ETag" in read.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in read.headers
    assert "Origin" in read.headers["vary"], "or a cache would answer one origin with another's"


def test_a_named_origin_may_read_why_it_was_refused(open_to_one: Server) -> None:
    refused = httpx.get(f"{open_to_one.images}/a.png", headers={"Origin": OURS})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == OURS


@pytest.mark.parametrize("origin", ["https://evil.example", f"{OURS}.evil.example", "null"])
def test_another_origin_may_not(open_to_one: Server, origin: str) -> None:
    assert "access-control-allow-origin" not in preflight(open_to_one, origin).headers
    with open_to_one.client() as client:
        answer = client.get(IMAGES, headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers


def test_nobody_may_by_default(server: Server) -> None:
    asked = preflight(server, OURS)
    assert asked.status_code == 405
    assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize("fast_path", ["true", pytest.param("false", marks=pytest.mark.whole)])
def test_every_answer_says_that_it_varies_by_origin(tmp_path: Path, fast_path: str) -> None:
    with (
        running(tmp_path, cors_origins=OURS, fast_path=fast_path) as server,
        server.client() as client,
    ):
        for method, name in (
            ("POST", "a.png"),
            ("GET", "a.png"),
            ("HEAD", "a.png"),
            ("GET", "none.png"),
        ):
            for _ in range(3):  # known from the second one on
                answer = client.request(
                    method,
                    f"{IMAGES}/{name}",
                    files={"file": b"x"} if method == "POST" else None,
                )
                assert answer.headers.get_list("vary") == ["Origin"], (method, name)
        refused = client.get(f"{IMAGES}/a.png", headers={"If-Match": '"no"'})
        assert (refused.status_code, refused.headers.get("vary")) == (412, "Origin")


def test_an_origin_that_no_browser_sends_stops_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="STILLROOM_CORS_ORIGINS"),
        running(tmp_path, cors_origins="https://app.example.com/"),
    ):
        pass
