"""Every error answer has its code in a field, whichever part of the server gives it."""

import httpx
import pytest

from acceptance.raw_requests import connected
from running import Server

pytestmark = pytest.mark.both_paths


def test_errors_of_operations_have_their_code(server: Server, folder: str) -> None:
    images = f"{server.images}/{folder}"
    headers = {"Authorization": f"Bearer {server.token()}"}
    with httpx.Client(headers=headers) as client:
        client.post(f"{images}/a.png", files={"file": ("a.png", b"\x89PNG\r\n\x1a\n")})
        for _ in range(2):  # the second one is known to the fast path
            for method in ("GET", "HEAD"):
                answer = client.request(method, f"{images}/none.png")
                assert (answer.status_code, answer.headers["stillroom-error"]) == (404, "not_found")
        for answer, code in (
            (client.get(f"{images}/..%2fa"), "invalid_path"),
            (client.get(f"{images}/a.png", headers={"range": "bytes=99-"}),
             "range_not_satisfiable"),
            (client.get(f"{images}/a.png", headers={"if-match": '"x"'}),
             "precondition_failed"),
            (client.post(f"{images}/b.png", content=b"x"), "unsupported_media"),
            (httpx.get(f"{images}/a.png"), "unauthenticated"),
        ):  # fmt: skip
            assert answer.is_error
            assert answer.headers.get_list("stillroom-error") == [code]
            if answer.content:
                assert answer.json()["code"] == code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nonsense\r\n\r\n", b"bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"bad_request"),
        (b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % (b"a" * 70_000), b"uri_too_long"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: %s\r\n\r\n" % (b"a" * 70_000),
         b"request_header_fields_too_large"),
    ],
)  # fmt: skip
def test_early_refusals_have_their_code(server: Server, sent: bytes, code: bytes) -> None:
    with connected(server.port) as (connection, stream):
        connection.sendall(sent)
        answer = stream.read()

    assert b"\r\nstillroom-error: %s\r\n" % code in answer
