"""A server as its users start it, behind the proxies whose configurations are shipped."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from acceptance.hostile import REFUSED
from acceptance.test_hostile_paths import METHODS
from contract.images import PNG, UNUSUAL_NAMES
from framing import ATTACKS, Attack, hidden, statuses
from running import IMAGES, Server, exchange, parsed, running
from services.ports import free_ports
from services.proxies import DEPLOY, FRAMING_BYTES, PROXIES
from stillroom.client import ImageStore
from stillroom.errors import TooLarge
from stillroom.settings import AllSettings
from stillroom.store.http import multipart
from waiting import until

pytestmark = pytest.mark.slow

MIB = 1024**2
GIB = 1024**3


@dataclass
class Front:
    """A proxy and the server behind it."""

    name: str
    port: int
    server: Server
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.server.token()}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@pytest.fixture(
    scope="module",
    params=[
        *((name, workers) for name in ("nginx", "caddy") for workers in ("1", "2")),
        ("nginx-cluster", "1"),
    ],
    ids=lambda pair: f"{pair[0]}-{pair[1]}",
)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    name, workers = request.param
    folder = tmp_path_factory.mktemp(name)
    (port,) = free_ports(1)
    with (
        running(
            folder,
            "--workers",
            workers,
            max_upload_bytes=str(2 * GIB),
            public_base_url=f"http://127.0.0.1:{port}",
        ) as server,
        PROXIES[name](folder, port, server.port, max_upload_bytes=2 * GIB),
    ):
        yield Front(name.removesuffix("-cluster"), port, server, folder)
    assert "Traceback" not in server.logged()


@pytest.fixture
def client(front: Front) -> Iterator[httpx.Client]:
    with front.client() as opened:
        yield opened


def test_the_five_operations_round_trip(front: Front, client: httpx.Client) -> None:
    saved = client.post(f"{IMAGES}/a/cat.png", files={"file": PNG})
    assert saved.json()["url"] == f"{front.url}{IMAGES}/a/cat.png"

    assert client.get(saved.json()["url"]).content == PNG
    assert client.head(f"{IMAGES}/a/cat.png").headers["content-length"] == str(len(PNG))
    assert client.get(IMAGES, params={"prefix": "a/"}).json() == ["a/cat.png"]
    assert client.delete(f"{IMAGES}/a/cat.png").json() == {"path": "a/cat.png"}
    assert client.get(f"{IMAGES}/a/cat.png").status_code == 404


@pytest.mark.parametrize("name", UNUSUAL_NAMES)
def test_an_unusual_name_is_the_same_name(client: httpx.Client, name: str) -> None:
    path = f"{IMAGES}/{quote(name)}"

    saved = client.post(path, files={"file": name.encode()}).json()

    assert saved["path"] == name
    assert client.get(saved["url"]).content == name.encode()
    assert client.get(IMAGES, params={"prefix": name}).json() == [name]
    (signed,) = client.post(
        f"{IMAGES.removesuffix('images')}signed-urls", json={"paths": [name]}
    ).json()["results"]
    assert httpx.get(signed["url"]).content == name.encode()
    assert httpx.get(signed["url"].replace("/images/", "/images/%2e%2f")).status_code == 401
    assert client.delete(path).json() == {"path": name}


ODD_TARGETS = [
    *(IMAGES.encode() + b"/" + path for path in REFUSED),
    IMAGES.encode() + b"/a%2Fb",
    IMAGES.encode() + b"/a+b%20c%2Bd",
    IMAGES.encode() + b"/\"<>[]{}|^`~!$&'()*,;=:@",
    IMAGES.encode() + b"/%E2%82%AC?x=a;b&&c=%zz",
    IMAGES.encode() + b"/a?",
    IMAGES.encode() + b"?limit=1&prefix=%2f",
    IMAGES.encode() + b"?prefix=a%2Bb+c",
    b"/api/v1/storage/im%61ges/a",
    b"//api/v1/storage/images/a",
    b"/api/v1//storage/images/a",
    b"/api/v1/storage/images%2fa",
    b"/api/v1/storage/images%0a",
    b"/x/../api/v1/storage/images/a",
    b"http://evil.example" + IMAGES.encode() + b"/a",
]
REFUSED_BY_PROXY = {
    "nginx": {b"a%00.png", b"a%2", b"%", b"%zz"},
    "caddy": {b"a%2", b"%", b"%zz"},
}


@pytest.mark.parametrize("target", ODD_TARGETS, ids=lambda target: target[-40:].decode("latin-1"))
def test_a_target_arrives_as_it_was_sent(front: Front, target: bytes) -> None:
    by_proxy = target.rpartition(b"/")[2] in REFUSED_BY_PROXY[front.name]
    for method in METHODS:
        asked = (
            method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Authorization: Bearer " + front.server.token().encode() + b"\r\n\r\n"
        )
        direct, answer = (parsed(exchange(port, asked)) for port in (front.server.port, front.port))

        if by_proxy:
            assert (direct.status, answer.status) == (422, 400)
        else:
            assert (answer.status, answer.body) == (direct.status, direct.body)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_no_framing_puts_an_answer_in_the_place_of_another(
    front: Front, client: httpx.Client, attack: Attack
) -> None:
    for name in ("victim", "one", "two", "three"):
        client.post(f"{IMAGES}/{name}.png", files={"file": name.encode()})
    token = front.server.token()

    try:
        answer = exchange(
            front.port, attack.request(token, hidden("victim.png", token)), timeout_s=3
        )
    except TimeoutError:
        answer = b""  # a body that lasts until the client closes, as Caddy has it, gets no answer

    assert len(statuses(answer)) <= 1
    assert all(status >= 400 for status in statuses(answer))
    for name in ("one", "two", "three", "victim"):  # on the connection that the proxy has kept
        assert client.get(f"{IMAGES}/{name}.png").content == name.encode()


def test_connections_to_the_server_are_kept(front: Front) -> None:
    def established() -> set[str]:
        lines = Path("/proc/net/tcp").read_text().splitlines()
        return {
            line.split()[1]
            for line in lines
            if line.split()[2:4] == [f"0100007F:{front.server.port:04X}", "01"]
        }

    for _ in range(3):
        httpx.get(f"{front.url}/healthz")
    before = established()
    for _ in range(10):
        assert httpx.get(f"{front.url}/healthz").status_code == 200
    assert before
    assert established() <= before


# Uploads


def upload(front: Front, path: str, token: str, length: int) -> socket.socket:
    """An upload of which the head has been sent."""
    connection = socket.create_connection(("127.0.0.1", front.port), timeout=60)
    connection.sendall(
        f"POST {IMAGES}/{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: multipart/form-data; boundary=B\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )
    return connection


@pytest.mark.parametrize(
    ("fault", "status"),
    [("token", 401), ("path", 422), ("length", 413)],
)
def test_an_early_refusal_of_a_gibibyte_is_seen(front: Front, fault: str, status: int) -> None:
    path = "a%0a" if fault == "path" else "a.png"
    token = "bad" if fault == "token" else front.server.token()
    length = 3 * GIB if fault == "length" else GIB

    with upload(front, path, token, length) as connection:
        sender = threading.Thread(target=send_zeros, args=(connection, GIB))
        sender.start()
        answer = parsed(connection.recv(65_536))
        connection.shutdown(socket.SHUT_RDWR)
        sender.join()

    assert answer.status == status


@pytest.mark.parametrize("name", PROXIES)
def test_more_than_allowed_without_a_declared_length_is_413(name: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    begin = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    with (
        running(tmp_path, max_upload_bytes=str(MIB)) as server,
        PROXIES[name](tmp_path, port, server.port, max_upload_bytes=MIB),
        server.client() as client,
    ):
        for size, status in ((MIB, 200), (MIB + 1, 413), (8 * MIB, 413)):
            answer = client.post(
                f"http://127.0.0.1:{port}{IMAGES}/{size}.bin",
                content=iter([begin, bytes(size), b"\r\n--B--\r\n"]),
                headers={"Content-Type": "multipart/form-data; boundary=B"},
            )
            assert answer.status_code == status
        assert client.get(IMAGES).json() == [f"{MIB}.bin"]


def test_a_client_that_sends_first_and_reads_later_sees_its_refusal(front: Front) -> None:
    with upload(front, "a.png", "bad", MIB) as connection:
        with contextlib.suppress(OSError):
            send_zeros(connection, MIB)
        assert parsed(connection.recv(65_536)).status == 401


def send_zeros(connection: socket.socket, count: int) -> None:
    with contextlib.suppress(OSError):
        for _ in range(count // 65_536):
            connection.sendall(bytes(65_536))


def test_an_upload_streams(front: Front, client: httpx.Client) -> None:
    begin = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    end = b"\r\n--B--\r\n"
    with upload(
        front, "s.bin", front.server.token(), len(begin) + 4 * MIB + len(end)
    ) as connection:
        connection.sendall(begin + bytes(2 * MIB))
        until(lambda: staged_bytes(front.server) >= MIB)  # before the rest has been sent
        connection.sendall(bytes(2 * MIB) + end)
        assert parsed(connection.recv(65_536)).status == 200
    assert len(client.get(f"{IMAGES}/s.bin").content) == 4 * MIB


def staged_bytes(server: Server) -> int:
    """What has been written of uploads that have not ended."""
    found = 0
    for pid in [server.process.pid, *server.children()]:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if "/staging/" in str(descriptor.readlink()):
                    position = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
                    found += int(position.split()[1])
    return found


def test_an_upload_that_breaks_off_leaves_nothing(front: Front, client: httpx.Client) -> None:
    with upload(front, "never.bin", front.server.token(), 4 * MIB) as connection:
        connection.sendall(
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        )
        connection.sendall(bytes(2 * MIB))
        until(lambda: staged_bytes(front.server) >= MIB)
    until(lambda: not staged_bytes(front.server))
    assert client.get(f"{IMAGES}/never.bin").status_code == 404


# Answers


def test_ranges_conditions_and_heads_pass_through(client: httpx.Client) -> None:
    etag = client.post(f"{IMAGES}/r.png", files={"file": PNG}).json()["etag"]
    url = f"{IMAGES}/r.png"

    part = client.get(url, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, PNG[1:4])
    assert part.headers["content-range"] == f"bytes 1-3/{len(PNG)}"
    assert client.get(url, headers={"Range": "bytes=9999-"}).status_code == 416
    unchanged = client.get(url, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert client.get(url, headers={"If-Match": '"no"'}).status_code == 412
    headed, got = client.head(url), client.get(url)
    assert headed.content == b""
    for field in ("content-length", "content-type", "etag", "cache-control", "accept-ranges"):
        assert headed.headers[field] == got.headers[field]
    assert client.post(url, files={"file": b"x"}, headers={"If-None-Match": "*"}).status_code == 412
    assert client.head(f"{IMAGES}/none.png").status_code == 404


def test_nothing_private_is_kept_for_others(front: Front, client: httpx.Client) -> None:
    client.post(f"{IMAGES}/private.png", files={"file": b"old"})
    assert client.get(f"{IMAGES}/private.png").content == b"old"

    assert httpx.get(f"{front.url}{IMAGES}/private.png").status_code == 401
    client.post(f"{IMAGES}/private.png", files={"file": b"new"})
    assert client.get(f"{IMAGES}/private.png").content == b"new"
    assert list((front.folder / "proxy").rglob("*")) == [], "nor on the proxy's disk"


@pytest.mark.parametrize("name", PROXIES)
def test_what_needs_no_token_can_be_hidden(name: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with (
        running(tmp_path) as server,
        PROXIES[name](tmp_path, port, server.port, max_upload_bytes=MIB, hides=True),
    ):
        for target in (
            *("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"),
            *("/metr%69cs", "/metrics/", "/x/../metrics", "/metrics?x", "//metrics"),
            *("/static-offline-docs/swagger-ui.css", "http://a/metrics"),
        ):
            asked = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            assert parsed(exchange(port, asked.encode())).status == 404, target
        assert httpx.get(f"http://127.0.0.1:{port}{IMAGES}").status_code == 401
        assert httpx.get(f"{server.url}/metrics").status_code == 200


@pytest.mark.parametrize("name", PROXIES)
def test_a_file_with_a_grant_may_be_larger_than_a_form(name: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with (
        running(tmp_path, public_base_url=url, max_upload_bytes=str(MIB)) as server,
        PROXIES[name](tmp_path, port, server.port, max_upload_bytes=MIB),
        ImageStore(url, server.token()) as store,
    ):
        data = PNG + bytes(5 * MIB)
        with pytest.raises(TooLarge):
            store.save("a.png", data)

        saved = store.save("a.png", data, direct=True)

        assert (saved.size, store.read("a.png")) == (len(data), data)
        assert store.save("b.png", data, direct=True, if_none_match="*").sha256 == saved.sha256


def test_the_numbers_in_the_files_are_those_of_the_settings() -> None:
    settings = {name: field.default for name, field in AllSettings.model_fields.items()}
    most = settings["max_upload_bytes"] + multipart.FRAMING_BYTES
    nginx, caddy = ((DEPLOY / name).read_text() for name in ("nginx.conf", "Caddyfile"))

    assert FRAMING_BYTES == multipart.FRAMING_BYTES
    assert f"client_max_body_size {most // 1024}k;" in nginx
    assert f"max_size {most // 1024}KiB" in caddy
    granted = settings["max_grant_bytes"] // GIB
    assert f"client_max_body_size {granted}g;" in nginx
    assert f"max_size {granted}GiB" in caddy
    assert f"127.0.0.1:{settings['port']}" in nginx
    assert f"127.0.0.1:{settings['port']}" in caddy
    assert "keepalive_timeout 60s; " in nginx
    assert "keepalive 60s" in caddy
    assert settings["idle_timeout_seconds"] > 60
    assert f"max_header_size {settings['max_head_bytes'] // 1024}KiB" in caddy


@pytest.mark.parametrize("name", PROXIES)
def test_no_signature_of_a_signed_url_is_in_a_log(tmp_path: Path, name: str) -> None:
    """Neither of a request that was served, nor of one whose server did not answer."""
    (port,) = free_ports(1)
    base = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(tmp_path, public_base_url=base))
        stack.enter_context(PROXIES[name](tmp_path, port, server.port, max_upload_bytes=MIB))
        with server.client() as client:
            client.post(f"{IMAGES}/a.png", files={"file": PNG})
            signing = f"{IMAGES.removesuffix('images')}signed-urls"
            url = client.post(signing, json={"path": "a.png"}).json()["url"]
        signature = url.partition("signature=")[2]
        assert httpx.get(url).status_code == 200
        assert httpx.get(f"{base}/nothing", headers={"Referer": url}).status_code == 404
        server.stop()
        assert httpx.get(url, headers={"Referer": url}).status_code == 502

    logged = "".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert "a.png" in logged
    assert signature
    assert signature not in logged
