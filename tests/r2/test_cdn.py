"""A server as its users start it, a real bucket behind it, and a CDN in front of that."""

import contextlib
import io
import itertools
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from PIL import Image

from contract.images import PNG, SVG, UNUSUAL_NAMES
from pictures import picture
from running import IMAGES, Server, peak_bytes, reset_peak, running
from services.nginx import nginx_cdn
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.store.bucket.storage import BUFFERED_BYTES

pytestmark = pytest.mark.slow

MIB = 1024**2
GIB = 1024**3


@pytest.fixture(scope="module")
def cdn(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx_cdn(tmp_path_factory.mktemp("nginx"), seaweed.endpoint_url) as url:
        yield url


@pytest.fixture(scope="module")
def server(
    seaweed: SeaweedFS, cdn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as environment:
            set_r2(environment, seaweed.endpoint_url, cdn)
            folder = tmp_path_factory.mktemp("server")
            started = stack.enter_context(running(folder, max_upload_bytes=str(GIB)))
        yield started
    seaweed.empty()


def set_r2(environment: pytest.MonkeyPatch, endpoint_url: str, public_url: str = "") -> None:
    environment.setenv("R2_ENDPOINT_URL", endpoint_url)
    environment.setenv("R2_ACCESS_KEY_ID", KEY_ID)
    environment.setenv("R2_SECRET_ACCESS_KEY", SECRET)
    environment.setenv("R2_BUCKET_NAME", BUCKET)
    environment.setenv("R2_PUBLIC_URL", public_url)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_the_first_line_of_the_log_names_bucket_and_cdn(server: Server, cdn: str) -> None:
    assert f"R2ImageStorage in bucket '{BUCKET}'" in server.logged()
    assert cdn in server.logged()
    assert "STILLROOM_JWT_SECRET" in server.logged()


def test_the_redirect_leads_to_the_same_bytes(client: httpx.Client, cdn: str) -> None:
    saved = client.post(f"{IMAGES}/a/cat.png", files={"file": PNG})
    assert saved.status_code == 200, saved.text

    redirect = client.get(f"{IMAGES}/a/cat.png")
    assert redirect.status_code == 302
    assert redirect.headers["location"] == saved.json()["url"] == f"{cdn}/compute/a/cat.png"
    first, second = (httpx.get(redirect.headers["location"]) for _ in range(2))

    assert first.content == second.content == PNG
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("MISS", "HIT")
    assert second.headers["content-type"] == "image/png"
    assert second.headers["cache-control"] == "public, max-age=300"
    assert second.headers["etag"] == saved.json()["etag"]
    assert "content-disposition" not in second.headers


def test_a_drawing_comes_back_as_an_attachment(client: httpx.Client) -> None:
    client.post(f"{IMAGES}/drawing.svg", files={"file": SVG})

    answer = client.get(f"{IMAGES}/drawing.svg", follow_redirects=True)

    assert answer.content == SVG
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-disposition"] == "attachment"


def test_a_cdn_gives_ranges_and_304_and_takes_no_changes(client: httpx.Client, cdn: str) -> None:
    etag = client.post(f"{IMAGES}/range.png", files={"file": PNG}).json()["etag"]
    url = f"{cdn}/compute/range.png"

    part = httpx.get(url, headers={"range": "bytes=1-3"})
    unchanged = httpx.get(url, headers={"if-none-match": etag})

    assert (part.status_code, part.content) == (206, PNG[1:4])
    assert unchanged.status_code == 304
    assert httpx.put(url, content=b"x").status_code == 403
    assert httpx.delete(url).status_code == 403


@pytest.mark.parametrize("name", UNUSUAL_NAMES)
def test_an_unusual_name_finds_its_way_through_the_cdn(client: httpx.Client, name: str) -> None:
    path = f"{IMAGES}/{quote(name)}"
    assert client.post(path, files={"file": name.encode()}).status_code == 200

    answer = client.get(path, follow_redirects=True)

    assert answer.content == name.encode()
    assert client.get(IMAGES, params={"prefix": name}).json() == [name]
    assert client.head(path).headers["content-length"] == str(len(name.encode()))
    assert client.delete(path).json() == {"path": name}
    assert client.get(path).status_code == 404


def test_a_smaller_picture_of_an_image_in_a_bucket(client: httpx.Client) -> None:
    large = picture(form="BMP", size=(1500, 1200))  # 5 MiB: fetched in two parts
    client.post(f"{IMAGES}/large.bmp", files={"file": large})

    answers = [client.get(f"{IMAGES}/large.bmp?width=300&format=png") for _ in range(2)]

    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert Image.open(io.BytesIO(answer.content)).size == (512, 410)
    assert answers[0].headers["etag"] == answers[1].headers["etag"]


def test_a_client_that_polls_too_early_does_not_poison_the_cdn(client: httpx.Client) -> None:
    assert client.get(f"{IMAGES}/soon.png", follow_redirects=True).status_code == 404
    client.post(f"{IMAGES}/soon.png", files={"file": PNG})

    assert client.get(f"{IMAGES}/soon.png", follow_redirects=True).content == PNG


def test_without_a_cdn_the_redirect_is_presigned(
    seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_r2(monkeypatch, seaweed.endpoint_url)
    with running(tmp_path) as server, server.client() as client:
        saved = client.post(f"{IMAGES}/a b+c/кошка.png", files={"file": PNG})
        location = client.get(f"{IMAGES}/a b%2Bc/кошка.png").headers["location"]

        assert saved.json()["url"].startswith(f"http://127.0.0.1:{server.port}{IMAGES}/")
        assert "X-Amz-Expires=300" in location
        assert httpx.get(location).content == PNG
        forged = location.replace("X-Amz-Expires=300", "X-Amz-Expires=301")
        assert httpx.get(forged).status_code == 403


@pytest.mark.whole
def test_while_a_bucket_hangs_all_that_is_local_stays_quick(
    server: Server, client: httpx.Client, seaweed: SeaweedFS
) -> None:
    server.token()
    with (
        ThreadPoolExecutor(100) as pool,
        seaweed.hanging(),
        httpx.Client(timeout=60) as anybody,  # one for all of it: each takes a while to make
    ):
        waiting = [pool.submit(client.get, f"{IMAGES}/{number}.png") for number in range(100)]
        while requests_in_flight(anybody, server) < 100:
            assert not any(job.done() for job in waiting)

        for _ in range(10):
            assert anybody.get(f"{server.url}/healthz").status_code == 200
            assert anybody.get(server.images).status_code == 401
            refused = anybody.get(f"{server.images}/..%2fetc", headers=client.headers)
            assert refused.status_code == 422
        assert not any(job.done() for job in waiting), "they have 20 s"
        while httpx.get(f"{server.url}/readyz", timeout=60).status_code == 200:
            pass  # the answer from before the bucket hung is remembered for two seconds

        answers = [job.result() for job in waiting]
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"5"}

    while client.get("/readyz").status_code == 503:
        pass  # remembered too
    assert client.get(f"{IMAGES}/0.png").status_code == 404


def requests_in_flight(client: httpx.Client, server: Server) -> int:
    text = client.get(f"{server.url}/metrics").text
    return int(float(re.findall(r"^stillroom_requests_in_flight (\S+)$", text, re.MULTILINE)[0]))


# Memory


def post_in_pieces(
    client: httpx.Client, path: str, piece: bytes, count: int, *, timeout_s: float
) -> httpx.Response:
    """Save an image that is the same piece again and again, and never whole in this process."""
    begin = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    end = b"\r\n--B--\r\n"
    return client.post(
        f"{IMAGES}/{path}",
        content=itertools.chain([begin], itertools.repeat(piece, count), [end]),
        headers={
            "content-type": "multipart/form-data; boundary=B",
            "content-length": str(count * len(piece) + len(begin) + len(end)),
        },
        timeout=timeout_s,
    )


@pytest.mark.whole
def test_a_gibibyte_grows_the_server_by_less_than_64_mib(
    server: Server, client: httpx.Client
) -> None:
    piece = bytes(range(256)) * 4096

    client.post(f"{IMAGES}/warm.bin", files={"file": bytes(20 * MIB)})
    before = reset_peak(server.pid)
    answer = post_in_pieces(client, "big.bin", piece, GIB // len(piece), timeout_s=300)
    growth = peak_bytes(server.pid) - before

    assert answer.json()["size"] == GIB, answer.text
    assert int(client.head(f"{IMAGES}/big.bin").headers["content-length"]) == GIB
    assert growth < 64 * MIB, f"grew by {growth / MIB:.1f} MiB"


@pytest.mark.whole
def test_64_uploads_at_once_stay_within_the_budget(server: Server, operator: Operator) -> None:
    piece = bytes(range(256)) * 4096
    start = threading.Barrier(64)
    before = reset_peak(server.pid)

    def upload(number: int) -> int:
        with server.client() as client:
            start.wait()
            while True:
                answer = post_in_pieces(client, f"many/{number}.bin", piece, 10, timeout_s=120)
                if answer.status_code != 503:  # else it has waited 20 s for those before it
                    return answer.status_code

    with ThreadPoolExecutor(64) as pool:
        statuses = set(pool.map(upload, range(64)))
    growth = peak_bytes(server.pid) - before

    assert statuses == {200}
    assert len(operator.keys("compute/many/")) == 64
    # The budget is for bodies. Each connection has a piece in hand and one that waits besides, of
    # the 256,000 bytes that one read brings; and there are threads, and heads.
    most = BUFFERED_BYTES + 64 * 2 * 256_000 + 8 * MIB
    assert growth < most, f"grew by {growth / MIB:.1f} MiB"
