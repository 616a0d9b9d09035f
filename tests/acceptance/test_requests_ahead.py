"""Several requests on one connection, and what is malformed behind one."""

import contextlib
import threading

import pytest

from acceptance.raw_requests import LARGE, connected, one_answer
from running import IMAGES, Server, exchange, parsed


@pytest.mark.parametrize("apart", [False, True], ids=["with it", "behind it"])
def test_what_is_malformed_behind_a_large_answer_does_not_cut_it_off(
    both_paths: tuple[Server, Server], apart: bool
) -> None:
    for server in both_paths:
        request = (
            f"GET {IMAGES}/large.bin HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: Bearer {server.token()}\r\n\r\n"
        ).encode()
        for _ in range(10):
            with connected(server.port) as (connection, stream):
                connection.sendall(request if apart else request + b"no HTTP\r\n\r\n")
                received = 0
                while received < len(LARGE):
                    # As long as the answer lasts, more comes; a reset would drop what is unread.
                    with contextlib.suppress(BrokenPipeError):
                        connection.sendall(b"no HTTP\r\n\r\n")
                    piece = stream.read1(65_536)
                    assert piece, f"cut off after {received} bytes"
                    received += len(piece)


def test_requests_sent_ahead_are_all_answered_in_order(both_paths: tuple[Server, Server]) -> None:
    """More than are parsed ahead, with bodies that end anywhere in a packet."""
    for number, server in enumerate(both_paths):
        lines = f"Host: a\r\nAuthorization: Bearer {server.token()}\r\n"
        requests, expected = [], []
        for each in range(120):
            path = f"{IMAGES}/ahead/{number}-{each}.bin"
            content = b"%d " % each * (1 + each * 37 % 900)
            form = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            form += content + b"\r\n--B--\r\n"
            head = (
                f"POST {path} HTTP/1.1\r\n{lines}Content-Type: multipart/form-data; boundary=B\r\n"
            )
            if each % 2:
                requests.append(f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form)
            else:
                chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(form), form)
                requests.append(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)
            requests.append(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
            expected.append(content)
        with connected(server.port) as (connection, stream):
            sending = threading.Thread(target=connection.sendall, args=(b"".join(requests),))
            sending.start()
            for content in expected:
                assert parsed(one_answer(stream, has_body=True)).status == 200
                assert parsed(one_answer(stream, has_body=True)).body == content
            sending.join()


def test_a_request_behind_an_upload_has_its_own_answer(both_paths: tuple[Server, Server]) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        + LARGE
        + b"\r\n--b--\r\n"
    )
    for server in both_paths:
        token = f"Authorization: Bearer {server.token()}\r\n"
        post = (
            f"POST {IMAGES}/behind.bin HTTP/1.1\r\nHost: a\r\n{token}"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        get = f"GET {IMAGES}/behind.bin HTTP/1.1\r\nHost: a\r\n{token}\r\n".encode()
        for _ in range(2):
            with connected(server.port) as (connection, stream):
                connection.sendall(post + get + post)
                answers = [parsed(one_answer(stream, has_body=True)) for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 200, 200]
            assert answers[1].body == LARGE
            assert answers[0].json["sha256"] == answers[2].json["sha256"]


def small_post(server: Server, *fields: str) -> bytes:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx\r\n--b--\r\n'
    lines = [f"POST {IMAGES}/small.bin HTTP/1.1", "Host: a", f"Content-Length: {len(body)}",
             "Content-Type: multipart/form-data; boundary=b",
             f"Authorization: Bearer {server.token()}", *fields, "", ""]  # fmt: skip
    return "\r\n".join(lines).encode() + body


def test_100_continue_goes_to_the_request_that_asked_for_it(
    both_paths: tuple[Server, Server],
) -> None:
    for server in both_paths:
        asks = small_post(server, "Expect: 100-continue")
        head, _, body = asks.partition(b"\r\n\r\n")
        with server.client() as client:
            client.head(f"{IMAGES}/a.png")  # the token is known from here on
        with connected(server.port) as (connection, stream):
            connection.sendall(small_post(server) + head + b"\r\n\r\n")
            assert parsed(one_answer(stream, has_body=True)).status == 200
            assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert stream.readline() == b"\r\n"
            connection.sendall(body)
            assert parsed(one_answer(stream, has_body=True)).status == 200


def test_what_was_accepted_before_garbage_is_answered(both_paths: tuple[Server, Server]) -> None:
    for server in both_paths:
        with server.client() as client:
            client.head(f"{IMAGES}/a.png")  # the token is known from here on
        token = f"Authorization: Bearer {server.token()}"
        get = f"GET {IMAGES}/missing HTTP/1.1\r\nHost: a\r\n{token}\r\n\r\n".encode()
        answer = exchange(server.port, small_post(server) + get + b"\0\0")
        assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 400]
