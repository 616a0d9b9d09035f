"""What the SDK makes of a server that is down, is none, or is named by another of its URLs."""

import contextlib
import functools
import http.server
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from listening import certificate_file, listening
from running import Server
from stillroom.client import ImageStore, ServerUnreachable, UnexpectedAnswer
from stillroom.client.exchange import Answer, Failure
from stillroom.client.retries import Attempts, Retries

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class Clock:
    """Seconds that pass by waiting alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def waited(retries: Retries, outcome: Answer | Failure) -> float:
    """How long one operation goes on trying."""
    attempts = Attempts(retries)
    with contextlib.suppress(ServerUnreachable):
        while (wait := attempts.wait_after(outcome)) is not None:
            assert isinstance(retries.clock, Clock)
            retries.clock.now += wait
    return retries.clock()


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[str]:
    """`python -m http.server`, which knows nothing of images."""
    handler = functools.partial(_Silent, directory=str(tmp_path))
    with listening(handler) as url:
        yield url


class _Silent(http.server.SimpleHTTPRequestHandler):
    def do_DELETE(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's)
        """No line for each request."""


@pytest.mark.parametrize(
    "below", ["", "/", "/api/v1", "/api/v1/", "/api/v1/storage/images", "/api/v1/storage/"]
)
def test_each_url_of_the_api_counts_as_the_servers_root(
    server: Server, folder: str, below: str
) -> None:
    with ImageStore(server.url + below, server.token()) as store:
        saved = store.save(f"{folder}/a.png", PNG)

        assert saved.path == f"{folder}/a.png"
        assert list(store.iter(f"{folder}/")) == [f"{folder}/a.png"]


def test_a_404_of_another_server_is_no_missing_image(file_server: str) -> None:
    with ImageStore(file_server, "token") as store:
        for ask in (store.exists, store.stat, store.read):
            with pytest.raises(UnexpectedAnswer, match="not Stillroom: pass the URL"):
                ask("a.png")


def test_another_server_deletes_nothing_in_silence(file_server: str) -> None:
    with (
        ImageStore(file_server, "token") as store,
        pytest.raises(UnexpectedAnswer, match="not Stillroom"),
    ):
        store.delete("a.png", missing_ok=True)


def test_a_head_is_known_to_be_ours_by_its_error_field(server: Server, folder: str) -> None:
    with ImageStore(server.url, server.token()) as store:
        assert not store.exists(f"{folder}/none.png")

    found = httpx.head(
        f"{server.url}/api/v1/storage/images/{folder}/none.png",
        headers={"authorization": f"Bearer {server.token()}"},
    )
    assert found.status_code == 404
    assert found.headers["stillroom-error"] == "not_found"


REFUSED = httpx.ConnectError("Connection refused")


@pytest.mark.parametrize(
    ("had_answers", "outcome", "least_s", "most_s"),
    [
        (False, Failure(REFUSED, sent=False), 1, 10),
        (True, Failure(REFUSED, sent=False), 60, 120),
        (True, Failure(REFUSED, sent=False, permanent=True), 1, 10),
        (False, Answer(503, {}, b""), 60, 120),
    ],
    ids=["it was never there", "it has gone away", "its host is unknown", "it is busy"],
)
def test_a_server_is_waited_for_where_that_may_help(
    had_answers: bool, outcome: Answer | Failure, least_s: float, most_s: float
) -> None:
    retries = Retries(clock=Clock())
    if had_answers:
        Attempts(retries).wait_after(Answer(200, {}, b""))

    assert least_s < waited(retries, outcome) < most_s


def test_the_first_repetition_is_a_warning_that_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "stillroom.client"):
        waited(Retries(clock=Clock()), Failure(httpx.ConnectError("refused"), sent=False))

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("stillroom.client", logging.WARNING)
    assert record.getMessage() == (
        "no response from the server (refused); trying again for up to 10 s"
    )


def test_a_name_that_no_host_has_is_told_from_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    store = ImageStore("http://stillroom.invalid", "token", connect_deadline_s=0)

    with pytest.raises(ServerUnreachable, match="Name or service not known"):
        store.exists("a.png")
    assert not store._sender.retries.answered.is_set()


def test_a_certificate_that_does_not_hold_is_given_up_early(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_shake_hands, args=(listener, context))
        serving.start()
        store = ImageStore(
            f"https://127.0.0.1:{listener.getsockname()[1]}", "token", connect_deadline_s=0
        )
        with pytest.raises(ServerUnreachable, match=r"(?i)certificate"):
            store.exists("a.png")
        serving.join()


def _shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):
        context.wrap_socket(connection, server_side=True).close()
