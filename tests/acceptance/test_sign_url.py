"""`Sign-Url` on a save, over HTTP."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest

from acceptance.raw_requests import ask
from running import IMAGES, Answer, Server, parsed

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.hosts
@pytest.mark.both_paths
@pytest.mark.parametrize(
    ("field", "seconds"),
    [("7d", 604_800), ("90s", 90), ("15m", 900), ("1h", 3600), ("3600", 3600), ("604800", 604_800)],
)
def test_the_answer_has_a_url_that_needs_no_token(
    server: Server, client: httpx.Client, folder: str, field: str, seconds: int
) -> None:
    where = f"{IMAGES}/{folder}/{quote('b +&é.png')}"
    plain = client.post(where, files={"file": PNG}).json()

    answer = client.post(where, files={"file": PNG}, headers={"Sign-Url": field})

    saved = answer.json()
    assert answer.status_code == 200, answer.text
    signed, expires_at = saved.pop("signed_url"), saved.pop("signed_url_expires_at")
    assert {**saved, "etag": ""} == {**plain, "etag": ""}
    assert signed.startswith(f"{server.url}{where}?expires=")
    lasts = datetime.fromisoformat(expires_at) - datetime.now(UTC)
    assert timedelta(minutes=-1) < lasts - timedelta(seconds=seconds) <= timedelta(seconds=1)
    got = httpx.get(signed, follow_redirects=server.follows)
    assert (got.status_code, got.content) == (200, PNG)
    assert httpx.get(signed + "&width=64").status_code == 401
    assert httpx.delete(signed).status_code == 401


@pytest.mark.both_paths
@pytest.mark.parametrize(
    "field",
    ["", "0", "0d", "-1", "1.5h", "7 d", "1w", "d", "8d", "604801", "9" * 20, "1h, 1h", "٧d"],
)
def test_what_is_no_lifetime_of_a_url_is_refused_before_the_body(
    server: Server, client: httpx.Client, folder: str, field: str
) -> None:
    answer = refused(server, folder, field)

    assert (answer.status, answer.json["code"]) == (422, "invalid_parameter")
    assert answer.json["detail"][0]["loc"] == ["header", "sign-url"]
    assert client.head(f"{IMAGES}/{folder}/a.png").status_code == 404


@pytest.mark.both_paths
@pytest.mark.parametrize("field", ["1h", "soon"])
def test_who_may_not_read_the_image_gets_no_url_before_the_body(
    server: Server, client: httpx.Client, folder: str, field: str
) -> None:
    answer = refused(server, folder, field, "--scope", "storage:write", "--prefix", folder)

    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert 'scope="storage:read"' in answer.headers["www-authenticate"]
    assert client.head(f"{IMAGES}/{folder}/a.png").status_code == 404


def refused(server: Server, folder: str, field: str, *options: str) -> Answer:
    """The response to the head of a save, whose body never comes."""
    lines = [
        f"POST {IMAGES}/{folder}/a.png HTTP/1.1",
        "Host: a",
        f"Authorization: Bearer {server.token(*options)}",
        "Content-Type: multipart/form-data; boundary=b",
        "Content-Length: 1000",
        f"Sign-Url: {field}",
    ]
    (answer,) = ask(server, "\r\n".join([*lines, "\r\n"]).encode("utf-8"))
    return parsed(answer)


def test_both_paths_answer_alike(both_paths: tuple[Server, Server]) -> None:
    answers = []
    for server in both_paths:
        with server.client() as client:
            answer = client.post(
                f"{IMAGES}/signed.png", files={"file": PNG}, headers={"Sign-Url": "1h"}
            )
        answers.append(answer)

    short, long = answers
    assert [*short.json()] == [*long.json()]
    changing = {"etag", "signed_url", "signed_url_expires_at"}
    assert {name: value for name, value in short.json().items() if name not in changing} == {
        name: value for name, value in long.json().items() if name not in changing
    }
    assert short.headers.keys() == long.headers.keys()
    for answer in answers:
        assert httpx.get(answer.json()["signed_url"]).content == PNG


def test_a_save_whose_condition_fails_has_no_url(client: httpx.Client, folder: str) -> None:
    where = f"{IMAGES}/{folder}/a.png"
    fields = {"Sign-Url": "1h", "If-None-Match": "*"}

    assert "signed_url" in client.post(where, files={"file": PNG}, headers=fields).json()
    again = client.post(where, files={"file": PNG}, headers=fields)
    assert (again.status_code, "signed_url" in again.text) == (412, False)


@pytest.mark.hosts("disk")
def test_a_lifetime_of_the_image_and_one_of_its_url_go_together(
    client: httpx.Client, folder: str
) -> None:
    fields = {"Sign-Url": "1h", "Expires-In": "7d"}

    saved = client.post(f"{IMAGES}/{folder}/a.png", files={"file": PNG}, headers=fields).json()

    assert datetime.fromisoformat(saved["expires_at"]) > datetime.fromisoformat(
        saved["signed_url_expires_at"]
    )
