"""Where the SDK connects, as whose, and from which process; and a server that is another."""

import os

import httpx
import pytest

from command_line import PNG
from running import Server
from stillroom import errors
from stillroom.client import (
    ImageStore,
    UnexpectedAnswer,
)


@pytest.mark.parametrize(
    ("url", "token", "says"),
    [
        ("ftp://a", None, "is not a server's URL"),
        ("nonsense", None, "is not a server's URL"),
        ("http://a:port", None, "is not a server's URL"),
        ("http://[::1", None, "is not a server's URL"),
        ("http://user:secret@a", None, "the URL contains a user name"),
        ("http://a", "a\nb", r"the token contains invalid characters \(a trailing newline\?\)"),
    ],
)
def test_settings_that_cannot_work_are_named(url: str, token: str | None, says: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=says) as raised:
        ImageStore(url, token).stat("a")
    assert "secret" not in str(raised.value)
    assert "a\nb" not in str(raised.value)


def test_the_environment_says_where_and_who(
    server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_URL", f"{server.url}/")
    monkeypatch.setenv("STILLROOM_TOKEN", server.token())
    with ImageStore() as store:
        store.save(f"{folder}/a", PNG)
        assert store.read(f"{folder}/a") == PNG


def test_a_forked_worker_has_connections_of_its_own(server: Server, folder: str) -> None:
    with ImageStore(server.url, server.token()) as store:
        store.save(f"{folder}/0", PNG)
        children = []
        for number in range(1, 5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    for turn in range(20):
                        store.save(f"{folder}/{number}-{turn}", PNG + bytes([number]))
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        for turn in range(20):
            store.save(f"{folder}/0-{turn}", PNG)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
        assert len(list(store.iter(folder))) == 101


def test_another_server_is_told_from_ours() -> None:
    def foreign(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>welcome")

    with ImageStore(transport=httpx.MockTransport(foreign)) as store:
        for attempt in (
            lambda: store.save("a", PNG),
            lambda: store.stat("a"),
            lambda: list(store.iter()),
            lambda: list(store.entries()),
        ):
            with pytest.raises(UnexpectedAnswer):
                attempt()
