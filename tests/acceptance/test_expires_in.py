"""`Expires-In` on a save, over HTTP."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from running import IMAGES, Server, running

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.hosts
@pytest.mark.roads
@pytest.mark.parametrize(
    ("field", "seconds"),
    [("7d", 604_800), ("90s", 90), ("15m", 900), ("12h", 43_200), ("3600", 3600), ("3650d", None)],
)
def test_the_answer_says_when_the_image_goes(
    client: httpx.Client, folder: str, field: str, seconds: int | None
) -> None:
    answer = client.post(
        f"{IMAGES}/{folder}/a.png", files={"file": PNG}, headers={"Expires-In": field}
    )

    assert answer.status_code == 200, answer.text
    expires_at = datetime.fromisoformat(answer.json()["expires_at"])
    lasts = timedelta(seconds=seconds or 315_360_000)
    assert timedelta(minutes=-1) < expires_at - datetime.now(UTC) - lasts <= timedelta(0)
    plain = client.post(f"{IMAGES}/{folder}/a.png", files={"file": PNG})
    assert "expires_at" not in plain.json()


@pytest.mark.roads
@pytest.mark.parametrize(
    "field",
    ["", "0", "0d", "-1", "1.5h", "7 d", "7w", "d", "soon", "3651d", "9" * 20, "7d, 7d", "٧d"],
)
def test_what_is_no_lifetime_is_refused_and_nothing_is_saved(
    client: httpx.Client, folder: str, field: str
) -> None:
    where = f"{IMAGES}/{folder}/a.png"
    headers = {"Expires-In": field.encode("utf-8")}
    answer = client.post(where, files={"file": PNG}, headers=headers)  # type: ignore[arg-type]  # not ASCII

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert answer.json()["detail"][0]["loc"] == ["header", "expires-in"]
    assert client.head(where).status_code == 404


def test_a_token_that_may_write_may_set_an_end(server: Server, folder: str) -> None:
    with server.client("--scope", "storage:write", "--prefix", folder) as writer:
        answer = writer.post(
            f"{IMAGES}/{folder}/a.png", files={"file": PNG}, headers={"Expires-In": "1h"}
        )
    assert answer.status_code == 200


def test_an_image_is_gone_when_its_end_has_come(tmp_path: Path) -> None:
    with running(tmp_path, sweep_interval_seconds="1") as server, server.client() as client:
        for name, lasts in (("a", "1"), ("b", "1h")):
            client.post(
                f"{IMAGES}/{name}.png", files={"file": PNG}, headers={"Expires-In": lasts}
            ).raise_for_status()
        deadline = time.monotonic() + 30
        while client.head(f"{IMAGES}/a.png").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)  # until it holds; there is a deadline
        assert client.head(f"{IMAGES}/b.png").status_code == 200


def test_without_its_database_a_save_with_an_end_is_refused_and_others_are_not(
    tmp_path: Path,
) -> None:
    url = "postgresql://stillroom@127.0.0.1:1/none"
    with running(tmp_path, database_url=url) as server, server.client() as client:
        where = f"{IMAGES}/a.png"
        refused = client.post(where, files={"file": PNG}, headers={"Expires-In": "7d"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert client.head(where).status_code == 404
        assert client.post(where, files={"file": PNG}).status_code == 200
