"""Whatever several clients do to the same paths at once has a serial order."""

import random
import threading
import time
from collections import defaultdict

import httpx
import pytest

from acceptance.serial_order import (
    Operation,
    Step,
    created,
    deleted,
    has_serial_order,
    listed,
    read,
    replaced,
    saved,
)
from running import IMAGES, Server

CLIENTS = 5
OPERATIONS = 60


class Client(threading.Thread):
    """Does random things to a few paths, and notes what it asked and was told."""

    def __init__(self, server: Server, folder: str, number: int) -> None:
        super().__init__()
        self.server = server
        self.folder = folder
        self.chance = random.Random(number)
        self.number = number
        self.history: dict[str, list[Operation]] = defaultdict(list)
        self.unexpected: list[str] = []
        self.bytes_of: dict[str, bytes] = {}
        self.read_bytes: list[tuple[str, bytes]] = []

    def run(self) -> None:
        known: dict[str, str] = {}
        with self.server.client() as client:
            for count in range(OPERATIONS):
                path = f"{self.folder}/{self.chance.choice(('a', 'b', 'c/d'))}"
                data = f"{self.number}-{count}".encode() * self.chance.choice((1, 20_000))
                self._act(client, path, data, known)

    def _act(self, client: httpx.Client, path: str, data: bytes, known: dict[str, str]) -> None:
        began = time.monotonic()
        kind = self.chance.choice(("save", "create", "replace", "delete", "get", "head", "list"))
        url = f"{IMAGES}/{path}"
        answer: httpx.Response
        if kind in ("save", "create", "replace"):
            headers = {
                "save": {},
                "create": {"If-None-Match": "*"},
                "replace": {"If-Match": known.get(path, '"never"')},
            }[kind]
            answer = client.post(url, files={"file": data}, headers=headers)
        elif kind == "delete":
            answer = client.delete(url)
        elif kind == "list":
            answer = client.get(IMAGES, params={"prefix": f"{self.folder}/"})
        else:
            answer = client.request(kind.upper(), url)
        ended = time.monotonic()

        etag = answer.headers.get("etag")
        if kind in ("save", "create", "replace") and answer.status_code == 200:
            etag = str(answer.json()["etag"])
            self.bytes_of[etag] = data
        if kind == "get" and answer.status_code == 200:
            self.read_bytes.append((str(etag), answer.content))
        for at, step in self._steps(kind, path, answer, etag, known):
            self.history[at].append(Operation(began, ended, f"{kind} {answer.status_code}", step))
        if etag is not None and answer.status_code == 200:
            known[path] = etag

    def _steps(
        self,
        kind: str,
        path: str,
        answer: httpx.Response,
        etag: str | None,
        known: dict[str, str],
    ) -> list[tuple[str, Step]]:
        status = answer.status_code
        done = etag if status == 200 else None
        if kind == "save" and done:
            return [(path, saved(done))]
        if kind == "create" and status in (200, 412):
            return [(path, created(done))]
        if kind == "replace" and status in (200, 412):
            return [(path, replaced(known.get(path, '"never"'), done))]
        if kind == "delete" and status in (200, 404):
            return [(path, deleted(found=status == 200))]
        if kind in ("get", "head") and status in (200, 404):
            return [(path, read(done))]
        if kind == "list" and status == 200:
            seen = answer.json()
            paths = [f"{self.folder}/{name}" for name in ("a", "b", "c/d")]
            return [(at, listed(found=at in seen)) for at in paths]
        self.unexpected.append(f"{kind} {path}: {status} {answer.text}")
        return []


@pytest.mark.both_paths
@pytest.mark.workers
@pytest.mark.parametrize("round_", range(3))
def test_every_history_has_a_serial_order(server: Server, folder: str, round_: int) -> None:
    clients = [Client(server, folder, round_ * 100 + number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert [fault for client in clients for fault in client.unexpected] == []
    for path in (f"{folder}/a", f"{folder}/b", f"{folder}/c/d"):
        history = [operation for client in clients for operation in client.history[path]]
        assert len(history) > OPERATIONS
        assert has_serial_order(history), path

    bytes_of = {etag: data for client in clients for etag, data in client.bytes_of.items()}
    for client in clients:
        for etag, data in client.read_bytes:
            assert data == bytes_of[etag], "an ETag belongs to one image"


def test_the_checker_sees_a_lost_update_and_a_stale_read() -> None:
    def at(began: float, ended: float, step: Step) -> Operation:
        return Operation(began, ended, "", step)

    lost = [at(0, 1, saved("1")), at(2, 5, replaced("1", "2")), at(3, 4, replaced("1", "3"))]
    stale = [at(0, 1, saved("1")), at(2, 3, saved("2")), at(4, 5, read("1"))]
    resurrected = [at(0, 1, saved("1")), at(2, 3, deleted(found=True)), at(4, 5, read("1"))]
    two_winners = [at(0, 5, created("1")), at(1, 4, created("2"))]
    for history in (lost, stale, resurrected, two_winners):
        assert not has_serial_order(history)

    overlapping = [at(0, 9, saved("1")), at(1, 2, read(None)), at(3, 8, read("1"))]
    assert has_serial_order(overlapping)
