"""One webhook: what is sent, and what each response means."""

import asyncio
import email.utils
import re
import socket
import threading
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from events.receiving import OTHER_SECRET, Receiver, Response, receiving
from listening import certificate_file
from services.ports import free_ports
from stillroom.features.events.delivery import MAX_BODY_BYTES, Sender, encoded
from stillroom.features.events.types import IMAGE_DELETED, IMAGE_SAVED
from stillroom.features.events.webhook_file import Endpoint
from stillroom.store.json_posts import Attempt, parse_retry_after


def event(type: str = IMAGE_SAVED, **data: object) -> dict[str, Any]:  # noqa: A002  (as in the event)
    return {
        "id": f"evt_{uuid.uuid4().hex}",
        "type": type,
        "timestamp": "2026-11-28T10:00:00.123Z",
        "data": {"path": "a b/ü.png", **data},
        "actor": "user-7",
        "found": False,
    }


async def send(receiver: Receiver, sent: dict[str, Any], timeout_s: float = 60) -> Attempt:
    sender = Sender(receiver.endpoint(), timeout_s=timeout_s)
    try:
        return await sender.send(sent)
    finally:
        await sender.close()


async def test_a_receiver_gets_the_event_and_a_signature(receiver: Receiver) -> None:
    sent = event()

    assert await send(receiver, sent) == Attempt("delivered", status=200)

    assert receiver.accepted == [sent]
    (headers,) = receiver.headers
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == sent["id"]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 600
    assert headers["user-agent"].startswith("Stillroom/")


async def test_all_attempts_have_the_same_id(receiver: Receiver) -> None:
    sent = event()

    for _ in range(2):
        assert (await send(receiver, sent)).is_delivered

    assert [headers["webhook-id"] for headers in receiver.headers] == [sent["id"]] * 2


async def test_a_receiver_with_another_secret_refuses(receiver: Receiver) -> None:
    receiver.secret = OTHER_SECRET

    assert (await send(receiver, event())).status == 400
    assert receiver.accepted == []


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_a_success(receiver: Receiver, status: int) -> None:
    receiver.respond = lambda _: Response(status)

    assert (await send(receiver, event())).is_delivered


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 502, 503])
async def test_any_other_status_is_a_failure(receiver: Receiver, status: int) -> None:
    receiver.respond = lambda _: Response(status)

    attempt = await send(receiver, event())

    assert (attempt.result, attempt.status) == ("failed", status)
    assert attempt.detail == f"the response has the status {status}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.respond = lambda _: Response(status, {"location": receiver.url})

    attempt = await send(receiver, event())

    assert len(receiver.requests) == 1
    assert "redirects are not followed, change the URL" in attempt.detail


async def test_410_means_that_the_receiver_wants_no_more(receiver: Receiver) -> None:
    receiver.respond = lambda _: Response(410)

    assert (await send(receiver, event())).result == "gone"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_may_say_when_to_try_again(receiver: Receiver, status: int) -> None:
    receiver.respond = lambda _: Response(status, {"retry-after": "120"})

    attempt = await send(receiver, event())

    assert (attempt.result, attempt.retry_after) == ("throttled", timedelta(seconds=120))


def test_retry_after_is_seconds_or_a_date() -> None:
    now = 1_700_000_000.0

    def date(seconds: float) -> str:
        return email.utils.formatdate(now + seconds, usegmt=True)

    assert parse_retry_after("0", now) == timedelta(0)
    assert parse_retry_after(date(90), now) == timedelta(seconds=90)
    assert parse_retry_after(date(-90), now) == timedelta(0)
    for much in ("99999999999999999999", date(10**7)):
        assert parse_retry_after(much, now) == timedelta(days=1)
    far = f"01 Jan {'9' * 20} 00:00:00 GMT"
    for text in ("", "soon", "-1", "1.5", "Fri, 99 Nov 2026 00:00:00 GMT", far, "²"):
        assert parse_retry_after(text, now) is None


async def test_a_receiver_that_does_not_respond_in_time_has_failed(receiver: Receiver) -> None:
    released = threading.Event()

    def hang(_: dict[str, Any]) -> Response:
        assert released.wait(300)
        return Response()

    receiver.respond = hang
    attempt = await send(receiver, event(), timeout_s=0.5)
    released.set()

    assert attempt == Attempt("failed", "no response within 0.5 s")


async def test_a_receiver_that_closes_the_connection_has_failed(receiver: Receiver) -> None:
    receiver.respond = lambda _: None

    attempt = await send(receiver, event())

    assert attempt.result == "failed"
    assert attempt.detail.startswith("BrokenAnswerError: the connection ended")


async def test_a_receiver_that_is_not_there_has_failed() -> None:
    (port,) = free_ports(1)
    receiver = Receiver()
    receiver.url = f"http://127.0.0.1:{port}/"

    attempt = await send(receiver, event())

    assert attempt.result == "failed"
    assert attempt.detail.startswith("NotConnectedError: ")


async def test_a_name_whose_lookup_hangs_delays_no_other(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, hanging, look_up = threading.Event(), list[threading.Thread](), socket.getaddrinfo

    def hang(host: str | bytes, *parameters: Any, **named: Any) -> Any:
        if host in ("hanging.example", b"hanging.example"):
            hanging.append(threading.current_thread())
            released.wait(300)
            return []
        return look_up(host, *parameters, **named)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    sender = Sender(Endpoint("hanging", "https://hanging.example", ()), timeout_s=0.5)
    try:
        attempts = await asyncio.gather(*(sender.send(event()) for _ in range(8)))
        attempts.append(await sender.send(event()))
        await sender.close()
        receiver.url = receiver.url.replace("127.0.0.1", "localhost")
        assert (await send(receiver, event())).is_delivered
    finally:
        released.set()

    assert {attempt.detail for attempt in attempts} == {"no response within 0.5 s"}
    (thread,) = hanging
    assert thread.daemon  # the process can end, although the lookup has not


async def test_a_name_that_does_not_exist_has_failed() -> None:
    sender = Sender(Endpoint("absent", f"https://{'x' * 70}.invalid", ()), timeout_s=60)

    attempt = await sender.send(event())
    await sender.close()

    assert attempt.result == "failed"
    assert "Error: " in attempt.detail


@pytest.mark.parametrize("name", ["localhost", "another.example"])
async def test_the_certificate_of_a_receiver_is_checked_for_the_name_in_the_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    certificate = certificate_file(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with receiving(certificate) as receiver:
        receiver.url = receiver.url.replace("127.0.0.1", "localhost")
        attempt = await send(receiver, event())
        assert [headers["host"] for headers in receiver.headers] == [
            receiver.url.split("/")[2] for _ in receiver.accepted
        ]

    assert attempt.is_delivered == (name == "localhost")
    assert attempt.is_delivered or "certificate" in attempt.detail


async def test_a_receiver_that_accepts_connections_at_one_address_only_gets_the_event(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,), kind = re.findall(r":(\d+)/", receiver.url), socket.SOCK_STREAM
    rows = [row for ip in ("::1", "127.0.0.1") for row in socket.getaddrinfo(ip, port, type=kind)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    receiver.url = receiver.url.replace("127.0.0.1", "both.example")

    assert (await send(receiver, event())).is_delivered


async def test_a_large_response_does_not_matter(receiver: Receiver) -> None:
    receiver.respond = lambda _: Response(body=bytes(10**6))

    assert (await send(receiver, event())).is_delivered


async def test_a_proxy_in_the_environment_does_not_get_the_events(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")

    assert (await send(receiver, event())).is_delivered


async def test_connections_are_used_again(receiver: Receiver) -> None:
    receiver.respond = lambda _: Response(body=b"thanks")
    sender = Sender(receiver.endpoint(), timeout_s=60)

    attempts = await asyncio.gather(*(sender.send(event()) for _ in range(40)))
    await sender.close()

    assert all(attempt.is_delivered for attempt in attempts)
    assert receiver.most_at_once <= 8
    assert receiver.connections <= 8


async def test_a_response_without_a_length_ends_with_the_connection() -> None:
    lines: list[bytes] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nthanks")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        url = f"http://{host}:{port}/{{a}}%20b?c=/d"
        sender = Sender(Endpoint("plain", url, (bytes(32),)), timeout_s=60)
        attempts = [await sender.send(event()) for _ in range(2)]
        await sender.close()

    assert attempts == [Attempt("delivered", status=200)] * 2
    assert lines == [b"POST /%7Ba%7D%20b?c=/d HTTP/1.1\r\n"] * 2


async def test_a_body_has_at_most_16_kilobytes(receiver: Receiver) -> None:
    fits = event(note="")
    fits["data"]["note"] = "x" * (MAX_BODY_BYTES - len(encoded(fits)))

    assert (await send(receiver, fits)).is_delivered
    fits["data"]["note"] += "x"
    assert (await send(receiver, fits)).result == "too_large"
    assert len(receiver.requests) == 1


async def test_a_signed_url_is_added_to_events_about_saved_images(receiver: Receiver) -> None:
    endpoint = replace(receiver.endpoint(), signed_urls=3600)
    sender = Sender(endpoint, sign_url=lambda path, life_s: f"https://s/{path}?{life_s}")

    for kind in (IMAGE_SAVED, IMAGE_DELETED):
        assert (await sender.send(event(kind))).is_delivered
    await sender.close()

    saved, deleted = receiver.accepted
    assert saved["data"]["signed_url"] == "https://s/a b/ü.png?3600"
    assert "signed_url" not in deleted["data"]
