"""Large images that nginx sends itself: STILLROOM_SENDFILE=x-accel, deploy/nginx-sendfile.conf."""

import base64
import hashlib
import itertools
import os
import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from contract.images import PNG
from listening import certificate_file
from pictures import picture
from running import IMAGES, Server, exchange, parsed, running
from services.ports import free_ports
from services.proxies import nginx_proxy, nginx_tls_proxy, sending
from stillroom.speed.proxy_sendfile import LOCATION, MIN_BYTES

pytestmark = pytest.mark.slow

KEY = "a-key-for-this-proxy-alone"
OFFER = {"X-Stillroom-Sendfile": KEY}
MIB = 1024**2
ENOUGH = 200
"""Saves that were read."""

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><!--" + b" " * MIN_BYTES + b"--></svg>"


@dataclass
class Front:
    """nginx that sends large images, and the server behind it."""

    port: int
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.server.token()}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    @property
    def names(self) -> Path:
        return self.server.data / ".stillroom" / "sendfile"


def handing_over(
    folder: Path, *flags: str, public_base_url: str = "", fast_path: str = "true"
) -> AbstractContextManager[Server]:
    """A server that leaves large images to the proxy with the key."""
    return running(
        folder,
        *flags,
        sendfile="x-accel",
        sendfile_key=KEY,
        fast_path=fast_path,
        cors_origins="https://app.example.com",
        public_base_url=public_base_url,
    )


WAYS = {"fast path": ("1", "true"), "ASGI path": ("1", "false"), "2 workers": ("2", "true")}


@pytest.fixture(scope="module", params=list(WAYS.values()), ids=list(WAYS))
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("sendfile")
    (port,) = free_ports(1)
    with (
        handing_over(
            folder,
            *("--workers", request.param[0]),
            fast_path=request.param[1],
            public_base_url=f"http://127.0.0.1:{port}",
        ) as server,
        nginx_proxy(
            folder,
            port,
            server.port,
            max_upload_bytes=100 * MIB,
            sends_for=(server.data.absolute(), KEY),
        ),
    ):
        yield Front(port, server)
    assert "Traceback" not in server.logged()


@pytest.fixture
def client(front: Front) -> Iterator[httpx.Client]:
    with front.client() as opened:
        yield opened


def image_of(number: int, size: int = MIB) -> bytes:
    """Different for each number, of one size."""
    return (PNG + f"{number:08}".encode() * (size // 8))[:size]


def save(client: httpx.Client, path: str, body: bytes) -> str:
    saved = client.post(f"{IMAGES}/{path}", files={"file": body})
    assert saved.status_code == 200, saved.text
    return str(saved.json()["etag"])


def told(answer: httpx.Response) -> dict[str, list[str]]:
    """The fields of an answer that say something about it, in any order."""
    own = {"date", "server", "connection", "keep-alive", "x-request-id", "transfer-encoding"}
    return {
        name: answer.headers.get_list(name) for name in sorted(set(answer.headers.keys()) - own)
    }


ASKED = {
    "whole": {},
    "begin": {"Range": "bytes=0-9"},
    "middle": {"Range": "bytes=1000-99999"},
    "open": {"Range": "bytes=1000-"},
    "suffix": {"Range": "bytes=-70000"},
    "longer suffix": {"Range": "bytes=-999999999"},
    "beyond": {"Range": "bytes=5-999999999999999999"},
    "outside": {"Range": "bytes=99999999-"},
    "nothing": {"Range": "bytes=-0"},
    "several": {"Range": "bytes=0-9,20-29"},
    "backwards": {"Range": "bytes=9-5"},
    "other unit": {"Range": "lines=1-2"},
    "blanks": {"Range": "bytes= 10-99999"},
    "upper case": {"Range": "BYTES=10-99999"},
    "odd": {"Range": "bytes=a-b"},
    "huge": {"Range": f"bytes=0-{10**30}"},
    "if-range": {"Range": "bytes=10-99999", "If-Range": "{etag}"},
    "if-range of another": {"Range": "bytes=10-99999", "If-Range": '"another"'},
    "if-range weak": {"Range": "bytes=10-99999", "If-Range": "W/{etag}"},
    "if-range by date": {"Range": "bytes=10-99999", "If-Range": "{modified}"},
    "if-none-match": {"If-None-Match": "{etag}"},
    "if-none-match of another": {"If-None-Match": '"another"'},
    "if-none-match any": {"If-None-Match": "*"},
    "if-none-match of another, same time": {
        "If-None-Match": '"another"',
        "If-Modified-Since": "{modified}",
    },
    "if-match": {"If-Match": "{etag}"},
    "if-match of another": {"If-Match": '"another"'},
    "if-match any": {"If-Match": "*"},
    "if-modified-since": {"If-Modified-Since": "{modified}"},
    "if-modified-since long ago": {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
    "if-modified-since odd": {"If-Modified-Since": "yesterday"},
    "if-unmodified-since": {"If-Unmodified-Since": "{modified}"},
    "if-unmodified-since long ago": {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
    "if-match and range": {"If-Match": "{etag}", "Range": "bytes=10-99999"},
    "origin": {"Origin": "https://app.example.com"},
    "other origin": {"Origin": "https://other.example.com"},
    "gzip": {"Accept-Encoding": "gzip"},
    "a key of the client's": {"X-Stillroom-Sendfile": "another"},
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
@pytest.mark.parametrize("name", ["a.png", "b.svg", "größe +%.png"])
def test_every_answer_is_the_one_that_the_server_would_have_sent(
    front: Front, client: httpx.Client, name: str, asked: dict[str, str]
) -> None:
    body = SVG if name.endswith("svg") else image_of(1)
    url = f"{IMAGES}/{quote(name)}"
    headed = client.head(url)
    if headed.status_code == 404:
        saved = client.post(url, files={"file": body})
        assert saved.json()["path"] == name
        headed = client.head(url)
    values = {"etag": headed.headers["etag"], "modified": headed.headers["last-modified"]}
    fields = {field: value.format(**values) for field, value in asked.items()}

    for method in ("GET", "HEAD"):
        direct = client.request(method, f"{front.server.url}{url}", headers=fields)
        through = client.request(method, url, headers=fields)

        assert (through.status_code, told(through)) == (direct.status_code, told(direct))
        assert through.content == direct.content
        ids = [len(one.headers.get_list("x-request-id")) for one in (direct, through)]
        assert ids[0] == ids[1]


def test_nginx_sends_large_images_and_the_server_small_ones(
    front: Front, client: httpx.Client
) -> None:
    for name, body in (("large.png", image_of(1)), ("small.png", PNG)):
        save(client, name, body)
        offered = client.get(f"{front.server.images}/{name}", headers=OFFER)

        is_handed_over = name == "large.png"
        assert ("x-accel-redirect" in offered.headers) is is_handed_over
        assert offered.content == (b"" if is_handed_over else body)
        through = client.get(f"{IMAGES}/{name}")
        assert through.content == body
        assert "x-accel-redirect" not in through.headers


def test_only_the_proxy_with_the_key_is_told_a_name(front: Front, client: httpx.Client) -> None:
    save(client, "mine.png", image_of(2))

    for shown in ({}, {"X-Stillroom-Sendfile": "x-accel"}, {"X-Stillroom-Sendfile": KEY[:-1]}):
        answer = client.get(f"{front.server.images}/mine.png", headers=shown)
        assert "x-accel-redirect" not in answer.headers
        assert answer.content == image_of(2)
    without_right = httpx.get(f"{front.server.images}/mine.png", headers=OFFER)
    assert (without_right.status_code, "x-accel-redirect" in without_right.headers) == (401, False)


def test_the_internal_location_cannot_be_reached_from_outside(
    front: Front, client: httpx.Client
) -> None:
    save(client, "secret.png", image_of(3))
    offered = client.get(f"{front.server.images}/secret.png", headers=OFFER)
    name = offered.headers["x-accel-redirect"]
    assert name.startswith(LOCATION)
    assert (front.names / name.removeprefix(LOCATION)).read_bytes() == image_of(3)

    encoded = name.replace("/.", "/%2e").encode()
    for target in (
        name.encode(),
        encoded,
        b"/x/.." + name.encode(),
        b"/" + name.encode(),
        b"http://a" + name.encode(),
        LOCATION.encode(),
        LOCATION.encode() + b"../secret",
        LOCATION.encode() + b"..%2f..%2fcompute/secret.png",
    ):
        for method in (b"GET", b"HEAD", b"POST"):
            asked = (
                method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                b"X-Stillroom-Sendfile: " + KEY.encode() + b"\r\n\r\n"
            )
            answer = parsed(exchange(front.port, asked))
            assert answer.status in (400, 404, 405), target
            assert image_of(3)[:64] not in answer.body


def test_a_name_is_of_one_save_whatever_becomes_of_the_image(
    front: Front, client: httpx.Client
) -> None:
    save(client, "kept.png", image_of(4))
    named = client.get(f"{front.server.images}/kept.png", headers=OFFER)
    file = front.names / named.headers["x-accel-redirect"].removeprefix(LOCATION)

    save(client, "kept.png", image_of(5))
    assert file.read_bytes() == image_of(4)
    assert client.get(f"{IMAGES}/kept.png").content == image_of(5)

    client.delete(f"{IMAGES}/kept.png")
    assert file.read_bytes() == image_of(4)
    assert client.get(f"{IMAGES}/kept.png").status_code == 404


def test_no_image_is_sent_under_the_etag_of_another(front: Front) -> None:
    """All of one size, replaced and deleted all the time by some, read by others."""
    race = Race(front)
    threads = [threading.Thread(target=race.change, args=(number,)) for number in range(2)]
    threads += [threading.Thread(target=race.read) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(race.seen) < ENOUGH and all(thread.is_alive() for thread in threads):
        race.stop.wait(0.1)
    race.stop.set()
    for thread in threads:
        thread.join()

    assert len(race.seen) >= ENOUGH
    assert {etag: race.seen[etag] for etag in race.seen.keys() & race.saved.keys()} == {
        etag: race.saved[etag] for etag in race.seen.keys() & race.saved.keys()
    }
    assert race.contradicted == []


class Race:
    """One image that is changed and read by several clients.

    Attributes:
        saved: The digest of what was saved, by the ETag that was answered.
        seen: The digest of what was read, by the ETag that came with it.
        contradicted: ETags of answers whose bytes are others than `Repr-Digest` says.
    """

    def __init__(self, front: Front) -> None:
        self.stop = threading.Event()
        self.saved: dict[str, str] = {}
        self.seen: dict[str, str] = {}
        self.contradicted: list[str] = []
        self._front = front

    def change(self, start: int) -> None:
        with self._front.client() as client:
            for number in itertools.count(start, 2):
                if self.stop.is_set():
                    return
                body = image_of(number, 128 * 1024)
                self.saved[save(client, "hot.png", body)] = digest_of(body)
                if number % 7 == 0:
                    client.delete(f"{IMAGES}/hot.png")

    def read(self) -> None:
        with self._front.client() as client:
            while not self.stop.is_set():
                answer = client.get(f"{IMAGES}/hot.png")
                if answer.status_code == 404:
                    continue
                etag, digest = answer.headers["etag"], digest_of(answer.content)
                if answer.headers["repr-digest"] != digest or self.seen.get(etag, digest) != digest:
                    self.contradicted.append(etag)
                self.seen[etag] = digest


def digest_of(body: bytes) -> str:
    """As `Repr-Digest` has it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def test_what_nginx_cannot_open_the_server_sends(front: Front, client: httpx.Client) -> None:
    etag = save(client, "gone.png", image_of(6))
    assert client.get(f"{IMAGES}/gone.png").content == image_of(6)
    for folder in front.names.iterdir():  # the server still knows the names
        shutil.rmtree(folder)
        folder.mkdir()

    for fields in ({}, {"Range": "bytes=10-99999"}):
        answer = client.get(f"{IMAGES}/gone.png", headers=fields)
        start, end = (10, 100_000) if fields else (0, MIB)
        assert answer.content == image_of(6)[start:end]
        assert answer.headers["etag"] == etag


def test_a_resource_of_the_library_is_sent_by_nginx_too(front: Front, client: httpx.Client) -> None:
    body = picture(7, size=(512, 512))
    save(client, "work.png", body)
    key = {"storage_key": "compute/work.png"}
    took = client.post("/api/v1/media-resources/ingest", json=key)
    assert took.status_code == 200, took.text
    resource = took.json()["id"]
    url = f"/api/v1/media-resources/{resource}/file"

    offered = client.get(f"{front.server.url}{url}", headers=OFFER)
    direct, through = client.get(f"{front.server.url}{url}"), client.get(url)

    assert "x-accel-redirect" in offered.headers
    assert (through.status_code, told(through)) == (direct.status_code, told(direct))
    assert through.content == body


def test_behind_tls_an_image_has_all_the_fields_too(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    shown = certificate_file(tmp_path, "localhost")
    trusted = ssl.create_default_context(cafile=str(shown))
    with handing_over(tmp_path, public_base_url=f"https://localhost:{port}") as server:
        changes = sending(tmp_path, server.data.absolute(), KEY)
        with (
            nginx_tls_proxy(tmp_path, port, [server.port], shown, changes=changes),
            server.client() as direct,
            httpx.Client(headers=direct.headers, verify=trusted) as client,
        ):
            url = f"https://localhost:{port}{IMAGES}/a.png"
            save(direct, "a.png", image_of(8))
            whole, missing = client.get(url), client.get(f"{url}/none")

            expected = told(direct.get(f"{IMAGES}/a.png"))
            assert told(whole) == {**expected, "strict-transport-security": ["max-age=31536000"]}
            assert whole.content == image_of(8)
            assert missing.status_code == 404
            assert missing.headers["strict-transport-security"] == "max-age=31536000"


def test_nothing_is_left_of_the_names_when_the_server_has_stopped(tmp_path: Path) -> None:
    with handing_over(tmp_path) as server, server.client() as client:
        names = server.data / ".stillroom" / "sendfile"
        client.post(f"{IMAGES}/a.png", files={"file": image_of(1)})
        assert client.get(f"{IMAGES}/a.png", headers=OFFER).content == b""
        (folder,) = names.iterdir()
        (name,) = folder.iterdir()
        assert name.stat().st_nlink == 2
    assert not list(names.iterdir())

    (names / "1-crashed").mkdir()
    os.link(server.data / "compute" / "a.png", names / "1-crashed" / "a")
    with handing_over(tmp_path):
        assert not names.exists() or not list(names.iterdir())
    assert (server.data / "compute" / "a.png").read_bytes() == image_of(1)


@pytest.mark.parametrize("key", ["", "short", 'a"; a key that breaks out of quotes'])
def test_it_does_not_start_without_a_key(tmp_path: Path, key: str) -> None:
    with (
        pytest.raises(AssertionError, match="STILLROOM_SENDFILE_KEY to at least 16 letters"),
        running(tmp_path, sendfile="x-accel", sendfile_key=key),
    ):
        pass
