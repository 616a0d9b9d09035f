"""What the SDK does when the network or the server fails, request by request."""

import base64
import hashlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from running import free_port
from stillroom import errors
from stillroom.client import ImageStore, ServerUnreachable, UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.client.retries import Attempts, Retries

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
DIGEST = hashlib.sha256(PNG)
TOKEN = "secret-token"

SAVED = {
    "path": "a", "url": "u", "size": 108, "content_type": "image/png",
    "sha256": DIGEST.hexdigest(), "etag": '"1"',
}  # fmt: skip
UNAVAILABLE = httpx.Response(503, json={"detail": "later", "code": "backend_unavailable"})
FACTS = {
    "content-length": "108", "last-modified": "Tue, 24 Nov 2026 20:00:00 GMT",
    "content-type": "image/png", "etag": '"1"',
}  # fmt: skip


def repr_digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


Step = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Script(httpx.BaseTransport):
    """Answers each request with the next step, and remembers it."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step(request) if callable(step) else step


def store_of(script: Script) -> ImageStore:
    return ImageStore(
        "https://images.example.com", TOKEN, deadline_s=60, connect_deadline_s=60, transport=script
    )


@pytest.mark.parametrize(
    "trouble",
    [
        UNAVAILABLE,
        httpx.Response(502, text="<html>"),
        httpx.Response(429),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("gone"),
        httpx.WriteError("gone"),
    ],
)
def test_a_save_is_sent_again_whole(trouble: Step) -> None:
    script = Script(trouble, trouble, httpx.Response(200, json=SAVED))

    saved = store_of(script).save("a", io.BytesIO(PNG))

    assert saved.etag == '"1"'
    assert len(script.requests) == 3
    bodies = [request.content for request in script.requests]
    assert all(PNG in body for body in bodies)
    assert {request.headers["repr-digest"] for request in script.requests} == {repr_digest(PNG)}
    assert [int(request.headers["content-length"]) for request in script.requests] == [
        len(body) for body in bodies
    ]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthenticated", errors.Unauthenticated),
        (401, "token_expired", errors.TokenExpired),
        (403, "forbidden", errors.Forbidden),
        (409, "path_conflict", errors.PathConflict),
        (413, "too_large", errors.TooLarge),
        (422, "digest_mismatch", errors.DigestMismatch),
        (422, "empty_file", errors.EmptyFile),
        (507, "storage_full", errors.StorageFull),
        (500, "bug", UnexpectedAnswer),
        (400, "a_code_of_the_future", UnexpectedAnswer),
    ],
)
def test_what_cannot_succeed_is_not_tried_again(
    status: int, code: str, kind: type[Exception]
) -> None:
    script = Script(httpx.Response(status, json={"detail": "because", "code": code}))
    with pytest.raises(kind, match="because"):
        store_of(script).save("a", PNG)
    assert len(script.requests) == 1


def test_a_refusal_that_echoes_our_own_success_is_looked_into() -> None:
    refused = httpx.Response(412, json={"detail": "no", "code": "precondition_failed"})
    ours = httpx.Response(200, headers={**FACTS, "repr-digest": repr_digest(PNG)})
    script = Script(httpx.ReadTimeout(""), refused, ours, httpx.Response(200, json=SAVED))

    assert store_of(script).save("a", PNG, if_none_match="*").etag == '"1"'
    assert [request.method for request in script.requests] == ["POST", "POST", "HEAD", "POST"]
    assert script.requests[-1].headers["if-match"] == '"1"'

    theirs = httpx.Response(200, headers={**FACTS, "repr-digest": repr_digest(b"other")})
    script = Script(httpx.ReadTimeout(""), refused, theirs)
    with pytest.raises(errors.PreconditionFailed):
        store_of(script).save("a", PNG, if_none_match="*")
    script = Script(httpx.ConnectError(""), refused)
    with pytest.raises(errors.PreconditionFailed):
        store_of(script).save("a", PNG, if_none_match="*")


def test_a_missing_image_after_a_doubtful_deletion_was_deleted() -> None:
    missing = httpx.Response(404, json={"detail": "no such image", "code": "not_found"})
    store_of(Script(httpx.ReadError(""), missing)).delete("a")
    for steps in ([missing], [httpx.ConnectError(""), missing]):
        with pytest.raises(errors.ImageNotFound):
            store_of(Script(*steps)).delete("a")


def test_a_move_keeps_what_was_saved_meanwhile() -> None:
    refused = httpx.Response(412, json={"detail": "no", "code": "precondition_failed"})
    script = Script(httpx.Response(200, headers=FACTS), httpx.Response(200, json=SAVED), refused)
    with pytest.raises(errors.PreconditionFailed):
        store_of(script).move("a", "b")
    assert [request.method for request in script.requests] == ["HEAD", "POST", "DELETE"]
    assert script.requests[2].headers["if-match"] == '"1"'


def test_the_deadline_ends_the_attempts_with_what_was_last_seen() -> None:
    cases: list[tuple[Step, type[Exception]]] = [
        (UNAVAILABLE, errors.BackendUnavailable),
        (httpx.ConnectError("refused"), ServerUnreachable),
    ]
    for step, expected in cases:
        script = Script(*[step] * 1000)
        store = ImageStore("http://a", TOKEN, deadline_s=2, transport=script)
        with pytest.raises(expected) as raised:
            store.stat("a")
        assert TOKEN not in str(raised.value)
        assert 1 < len(script.requests) < 200


def test_waits_are_random_grow_and_keep_what_the_server_asks() -> None:
    now = [0.0]
    retries = Retries(deadline_s=1000, clock=lambda: now[0])
    attempts = Attempts(retries)
    waits = []
    for _ in range(12):
        wait = attempts.wait_after(Failure(httpx.ReadTimeout(""), sent=True))
        assert wait is not None
        waits.append(wait)
    assert all(wait <= min(10, 0.2 * 2**n) for n, wait in enumerate(waits))
    assert len(set(waits)) == 12
    asked = Attempts(retries).wait_after(Answer(503, {"retry-after": "7"}, b""))
    assert asked is not None
    assert 7 <= asked <= 7.2
    dated = attempts.wait_after(Answer(503, {"retry-after": "Tue, 24 Nov 2026 20:00:00 GMT"}, b""))
    assert dated is not None
    assert dated <= 10
    now[0] = 999.9
    assert attempts.wait_after(Answer(503, {"retry-after": "7"}, b"")) is None


def test_no_attempt_has_more_time_than_is_left() -> None:
    now = [0.0]
    attempts = Attempts(Retries(deadline_s=100, timeout_s=60, clock=lambda: now[0]))
    for now[0], left in ((0, 60), (70, 30), (99.95, 0.1), (200, 0.1)):
        assert attempts.prepared(Call("GET", "/")).timeout_s == pytest.approx(left)


def test_the_deadline_of_a_download_counts_from_its_last_byte() -> None:
    now = [0.0]
    attempts = Attempts(Retries(deadline_s=100, clock=lambda: now[0]))
    now[0] = 90
    attempts.progressed()
    for now[0], goes_on in ((150, True), (189.9, False)):
        outcome = Answer(503, {"retry-after": "1"}, b"")
        assert (attempts.wait_after(outcome) is not None) is goes_on


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = ImageStore(url, TOKEN, deadline_s=1, timeout_s=0.3)
        with pytest.raises(ServerUnreachable, match=f"is the server running at {url}"):
            store.save("a", PNG)
    with pytest.raises(ServerUnreachable):
        ImageStore(f"http://127.0.0.1:{free_port()}", TOKEN, deadline_s=0.5).exists("a")


@contextmanager
def raw_server(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each connection's one request with these bytes, then closes it."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65_536)
                seen.append(head)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        thread.join(60)
        listener.close()


def answer(status: str, body: bytes, *fields: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length or len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *fields]).encode() + b"\r\n\r\n" + body


def test_a_download_goes_on_where_it_broke_off() -> None:
    data = bytes(range(256)) * 400
    tag, digest = 'ETag: "v1"', f"Repr-Digest: {repr_digest(data)}"
    rest = f"Content-Range: bytes 60000-{len(data) - 1}/{len(data)}"
    with raw_server(
        answer("200 OK", data[:60_000], tag, digest, length=len(data)),
        answer("206 Partial Content", data[60_000:], tag, digest, rest),
    ) as (url, seen):
        assert ImageStore(url, TOKEN, deadline_s=60).read("a") == data
    assert b"if-range" not in seen[0].lower()
    assert b"range: bytes=60000-" in seen[1].lower()
    assert b'if-range: "v1"' in seen[1].lower()


def test_a_download_of_an_image_that_was_replaced_starts_again() -> None:
    old, new = bytes(50_000), b"n" * 40_000
    with raw_server(
        answer("200 OK", old[:20_000], 'ETag: "old"', length=len(old)),
        answer("200 OK", new, 'ETag: "new"', f"Repr-Digest: {repr_digest(new)}"),
    ) as (url, _):
        assert ImageStore(url, TOKEN, deadline_s=60).read("a") == new


def test_a_download_with_other_bytes_than_announced_is_refused() -> None:
    script = Script(httpx.Response(200, content=PNG, headers={"repr-digest": repr_digest(b"x")}))
    with pytest.raises(errors.DigestMismatch):
        store_of(script).read("a")


def test_the_token_does_not_follow_a_redirect() -> None:
    there = "https://cdn.example.com/compute/a?signature=xyz"
    script = Script(
        httpx.Response(302, headers={"location": there}), httpx.Response(200, content=PNG)
    )

    assert store_of(script).read("a") == PNG

    ours, theirs = script.requests
    assert ours.headers["authorization"] == f"Bearer {TOKEN}"
    assert str(theirs.url) == there
    assert "authorization" not in theirs.headers
    assert TOKEN not in str(theirs.headers.raw)


@pytest.mark.parametrize("there", ["http://cdn.example.com/a", "file:///etc/passwd", "ftp://a/b"])
def test_a_redirect_that_leaves_https_is_not_followed(there: str) -> None:
    script = Script(httpx.Response(302, headers={"location": there}))
    with pytest.raises(UnexpectedAnswer, match="not https"):
        store_of(script).read("a")
    assert len(script.requests) == 1


def test_redirects_that_never_end_and_a_cdn_that_refuses_are_told() -> None:
    round_and_round = httpx.Response(
        302, headers={"location": "https://cdn.example.com/b?x=secret"}
    )
    with pytest.raises(UnexpectedAnswer, match="more than 3 times"):
        store_of(Script(*[round_and_round] * 9)).read("a")
    with pytest.raises(
        UnexpectedAnswer, match=r"cdn.example.com.*responded with the status 403"
    ) as raised:
        store_of(Script(round_and_round, httpx.Response(403))).read("a")
    assert "secret" not in str(raised.value)


def test_a_token_may_be_renewed_between_attempts() -> None:
    tokens = iter(["first", "second"])
    script = Script(UNAVAILABLE, httpx.Response(200, headers=FACTS))
    ImageStore("http://a", lambda: next(tokens), transport=script, deadline_s=120).stat("a")
    sent = [request.headers["authorization"] for request in script.requests]
    assert sent == ["Bearer first", "Bearer second"]


def test_a_server_that_lists_what_is_no_path_is_not_believed() -> None:
    for names in (["../../etc/passwd"], ["/abs"], ["a\u202eb"], [7]):
        script = Script(httpx.Response(200, text=json.dumps(names)))
        with pytest.raises(UnexpectedAnswer):
            list(store_of(script).iter())


def test_no_control_character_of_a_server_reaches_a_terminal() -> None:
    said = {"detail": "\x1b]0;owned\x07\nok", "code": "forbidden"}
    with pytest.raises(errors.Forbidden, match=r"^a: \?\]0;owned\?\?ok$"):
        store_of(Script(httpx.Response(403, json=said))).save("a", PNG)


def test_an_ingest_names_the_key_and_reads_the_resource() -> None:
    resource = {
        "id": "0192", "resource_type": "image", "storage_key": "media/0192/file.png",
        "content_hash": "ab", "extension": "png", "content_type": "image/png", "file_size": 1,
        "width": 1, "height": 1, "color_profile": None, "protected": False, "alt_text": None,
        "caption": None, "created_at": "2026-11-24T20:00:00+00:00", "url": "https://a/b",
    }  # fmt: skip
    script = Script(httpx.Response(200, json=resource))

    found = store_of(script).ingest("a b.png", relocate=False)

    (request,) = script.requests
    assert request.url.path == "/api/v1/media-resources/ingest"
    assert json.loads(request.content) == {"storage_key": "compute/a b.png", "relocate": False}
    assert (found.id, found.width, found.created_at.year) == ("0192", 1, 2026)
    assert found.source_key is None  # an older server does not say it
