"""TLS, limits for each client, and several processes: deploy/nginx-tls.conf, deploy/Caddyfile."""

import contextlib
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from listening import certificate_file
from pictures import picture
from running import IMAGES, STILLROOM, Server, exchange, parsed, running
from services.ports import free_ports
from services.proxies import (
    DEPLOY,
    caddy_tls_proxy,
    nginx_tls_proxy,
)
from stillroom.client import ImageStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_file(tmp_path_factory.mktemp("certificate"), "localhost")


@contextlib.contextmanager
def fronted(name: str, folder: Path, shown: Path) -> Iterator[Server]:
    """A server whose public name is that of the proxy in front."""
    (port,) = free_ports(1)
    public_base_url = f"https://localhost:{port}"
    with running(folder, public_base_url=public_base_url) as server:
        front = (
            nginx_tls_proxy(folder, port, [server.port], shown)
            if name == "nginx"
            else caddy_tls_proxy(folder, port, server.port, shown)
        )
        with front:
            server.environment["STILLROOM_URL"] = public_base_url
            server.environment["STILLROOM_TOKEN"] = server.token()
            yield server


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_the_sdk_and_the_commands_go_through_tls_with_an_authority_of_ones_own(
    tmp_path: Path, shown: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(picture(size=(300, 300)))
    with fronted(name, tmp_path, shown) as server:
        url, token = server.environment["STILLROOM_URL"], server.token()
        monkeypatch.setenv("SSL_CERT_FILE", str(shown))
        with ImageStore(url, token, deadline_s=120) as store:
            saved = store.save("a b/cat.png", file)
            assert saved.url == f"{url}{IMAGES}/a%20b/cat.png"
            assert store.read("a b/cat.png") == file.read_bytes()
        server.environment["SSL_CERT_FILE"] = str(shown)
        command = [STILLROOM, "get", "a b/cat.png", str(tmp_path / "back.png")]
        subprocess.run(command, env=server.environment, check=True, capture_output=True)
        assert (tmp_path / "back.png").read_bytes() == file.read_bytes()

        # Without the authority nothing is sent, the token least of all.
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(saved.url, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_names_arrive_as_they_were_sent_by_http_2_too(
    tmp_path: Path, shown: Path, name: str
) -> None:
    with fronted(name, tmp_path, shown) as server, server.client() as direct:
        url = f"{server.environment['STILLROOM_URL']}{IMAGES}"

        def curl(target: str, *more: str) -> list[str]:
            words = ["--http2", "--path-as-is", "--globoff", "--cacert", str(shown)]
            words += ["-sS", "-H", f"Authorization: Bearer {server.token()}", "-o", "/dev/null"]
            ran = subprocess.run(
                ["curl", *words, "-w", "%{http_version} %{http_code}", *more, f"{url}/{target}"],
                check=True,
                capture_output=True,
                text=True,
            )
            return ran.stdout.split()

        image = tmp_path / "image"
        image.write_bytes(picture())
        assert curl("a+b%20%2B(%C3%BC).png", "-F", f"file=@{image}") == ["2", "200"]
        assert direct.get(IMAGES).json() == ["a+b +(ü).png"]
        for target in ("a+b%20%2B(%C3%BC).png", "a%2Fb", "a//b", "../x", "%2e%2e/x", "b", "a%0a"):
            asked = (
                f"GET {IMAGES}/{target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                f"Authorization: Bearer {server.token()}\r\n\r\n"
            )
            expected = parsed(exchange(server.port, asked.encode())).status
            assert curl(target) == ["2", str(expected)], target


def test_plain_http_is_sent_to_the_name_that_is_configured(tmp_path: Path, shown: Path) -> None:
    (port,) = free_ports(1)
    with nginx_tls_proxy(tmp_path, port, [1], shown) as plain:
        answer = httpx.get(f"http://127.0.0.1:{plain}/a%2Fb?c", headers={"Host": "evil.example"})
        assert answer.status_code == 301
        assert answer.headers["location"] == "https://localhost/a%2Fb?c"


def test_a_larger_body_is_413_and_browsers_are_told_to_come_by_tls(
    tmp_path: Path, shown: Path
) -> None:
    trusted = ssl.create_default_context(cafile=str(shown))
    with fronted("nginx", tmp_path, shown) as server:
        url = httpx.URL(server.environment["STILLROOM_URL"])
        refused, missing = (
            parsed(encrypted(url, trusted, f"{line}\r\nHost: localhost\r\nConnection: close"))
            for line in (
                f"POST {IMAGES}/a.bin HTTP/1.1\r\nContent-Length: {102656 * 1024 + 1}",
                "GET /none HTTP/1.1",
            )
        )
    assert (refused.status, missing.status) == (413, 404)
    for answer in (refused, missing):
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


def encrypted(url: httpx.URL, trusted: ssl.SSLContext, head: str) -> bytes:
    """The answer to a request of which the head is sent."""
    with (
        socket.create_connection((url.host, url.port or 0), timeout=60) as plain,
        trusted.wrap_socket(plain, server_hostname=url.host) as connection,
    ):
        connection.sendall(f"{head}\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
        return answer


def test_more_than_an_address_may_ask_for_is_429(tmp_path: Path, shown: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(shown))
    (port,) = free_ports(1)
    changes = {"rate=200r/s": "rate=1r/m", "burst=400": "burst=3"}
    with (
        running(tmp_path) as server,
        nginx_tls_proxy(tmp_path, port, [server.port], shown, changes=changes),
        httpx.Client(verify=trusted) as client,
    ):
        statuses = [client.get(f"https://localhost:{port}/healthz").status_code for _ in range(6)]
    assert statuses == [200] * 4 + [429] * 2


def test_behind_one_name_a_process_can_stop_and_the_sdk_loses_nothing(
    tmp_path: Path, shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one data directory, as docs/upgrading.md has it: one after the other is restarted."""
    (port,) = free_ports(1)
    monkeypatch.setenv("SSL_CERT_FILE", str(shown))
    saved: list[str] = []
    stopped = threading.Event()
    second = tmp_path / "second"
    second.mkdir()
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(running(tmp_path))
        two = stack.enter_context(running(second, data=one.data))
        stack.enter_context(nginx_tls_proxy(tmp_path, port, [one.port, two.port], shown))
        store = stack.enter_context(
            ImageStore(f"https://localhost:{port}", one.token(), deadline_s=60)
        )

        def save() -> None:
            while not stopped.is_set():
                path = f"{len(saved)}.png"
                store.save(path, path.encode())
                saved.append(path)

        saving = threading.Thread(target=save)
        saving.start()
        try:
            wait_for_more(saved, saving)
            assert one.stop() == 0
            wait_for_more(saved, saving)
        finally:
            stopped.set()
            saving.join()
        for path in saved:
            assert store.read(path) == path.encode()
        assert two.stop() == 0


def wait_for_more(saved: list[str], saving: threading.Thread) -> None:
    enough = len(saved) + 20
    while len(saved) < enough:
        assert saving.is_alive()
        threading.Event().wait(0.01)  # until some have been acknowledged


def test_both_files_of_nginx_pass_requests_on_alike() -> None:
    plain, tls = (
        re.search(r"\n    # Names are compared.*", (DEPLOY / name).read_text(), re.DOTALL)
        for name in ("nginx.conf", "nginx-tls.conf")
    )
    assert plain
    assert tls
    assert plain[0] == tls[0]
