"""Large files go to the bucket itself, with a grant and past the CORS rules of a real bucket."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, Locator, Request, Route, expect

from acceptance.pasting import blocks
from browser.site import Site
from browser.visiting import Visit, a_file, fragment, save, stored, visit
from pictures import picture
from running import IMAGES, Server, running
from services.bucket_rules import pages_may_upload
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, bucket_variables
from services.stub_r2 import Conditions, StubR2, served
from videos import Mp4, frames
from waiting import until

pytestmark = pytest.mark.slow

MIB = 1024**2
LARGE = 65 * MIB
BYTES_A_SECOND = 40 * MIB
GRANTS = f"{IMAGES.removesuffix('images')}upload-grants"
COMPLETE = f"**{GRANTS}/complete"

_WATCH_PROGRESS = """() => {
  window.progress = [];
  new MutationObserver((all) => { for (const { target } of all) progress.push(target.position); })
    .observe(document.getElementById("upload-rows"), { subtree: true, attributeFilter: ["value"] });
}"""


@dataclass
class Sent:
    """Requests of a page, but for preflights."""

    requests: list[Request]

    def add(self, request: Request) -> None:
        self.requests.append(request)

    def to(self, host: str, method: str) -> list[Request]:
        ours = (one for one in self.requests if urlsplit(one.url).netloc == host)
        return [one for one in ours if one.method == method]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seaweed: SeaweedFS) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in bucket_variables(seaweed).items():
                patch.setenv(name, value)
            started = stack.enter_context(running(tmp_path_factory.mktemp("direct")))
        started.follows = True
        yield started
    seaweed.empty()


@pytest.fixture
def bucket(seaweed: SeaweedFS) -> str:
    return urlsplit(seaweed.endpoint_url).netloc


@pytest.fixture
def visitor(browser: Browser, server: Server, bucket: str) -> Iterator[Visit]:
    with visit(browser, server, hosts=(bucket,)) as began:
        yield began


@pytest.fixture
def sent(visitor: Visit) -> Sent:
    sent = Sent([])
    visitor.page.on("request", sent.add)
    return sent


@pytest.fixture
def allowed(server: Server, operator: Operator) -> Iterator[None]:
    with pages_may_upload(operator, server.url):
        yield


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    file.write_bytes(Mp4(frames()).file(before=LARGE))
    return file


def enter(visitor: Visit, server: Server, folder: str) -> None:
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.page.locator("#upload")).to_be_visible()


def upload(visitor: Visit, *files: Path) -> None:
    visitor.page.locator("#files").set_input_files(files)


def rows(visitor: Visit, kind: str) -> Locator:
    found: Locator = visitor.page.locator(f".upload.{kind}")
    return found


def expect_uploaded(visitor: Visit, said: str = "1 of 1 file uploaded.") -> None:
    expect(visitor.page.locator("#uploads-told")).to_have_text(said)


def test_a_large_file_is_sent_to_the_bucket_once_its_cors_rule_allows_the_page(
    visitor: Visit,
    server: Server,
    operator: Operator,
    client: httpx.Client,
    folder: str,
    film: Path,
    sent: Sent,
    bucket: str,
) -> None:
    enter(visitor, server, folder)
    visitor.page.evaluate(_WATCH_PROGRESS)
    throttled = visitor.page.context.new_cdp_session(visitor.page)
    throttled.send("Network.enable")
    throttled.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": 0,
            "downloadThroughput": -1,
            "uploadThroughput": BYTES_A_SECOND,
        },
    )
    upload(visitor, film)
    failed = rows(visitor, "failed")
    expect(failed).to_contain_text(f"CORS rule does not allow {server.url}")
    expect(failed).to_contain_text("stillroom doctor")
    visitor.picture("no-cors-rule")
    visitor.expect_accessible()
    assert operator.keys("temp/") == stored(client, folder) == []

    with pages_may_upload(operator, server.url):
        failed.get_by_role("button", name="Try again").click()
        expect(rows(visitor, "under").locator("progress[value]")).to_be_visible()
        expect_uploaded(visitor)

    assert client.get(f"{IMAGES}/{folder}film.mp4").content == film.read_bytes()
    assert operator.keys("temp/") == []
    assert sent.to(urlsplit(server.url).netloc, "POST")
    assert not [one for one in sent.requests if one.method == "POST" and IMAGES in one.url]
    put = sent.to(bucket, "PUT")[-1].all_headers()
    assert put["content-type"] == "application/octet-stream"
    assert put["content-disposition"] == "attachment"
    assert put["if-none-match"] == "*"
    assert "authorization" not in put
    between = [part for part in visitor.page.evaluate("progress") if 0 < part < 1]
    assert between == sorted(between)
    assert between


@pytest.mark.usefixtures("allowed")
def test_a_small_file_of_a_bucket_is_sent_to_the_server(
    visitor: Visit, server: Server, client: httpx.Client, folder: str, sent: Sent, bucket: str
) -> None:
    enter(visitor, server, folder)
    visitor.page.locator("#files").set_input_files([a_file("small.png", picture(1))])
    expect_uploaded(visitor)

    assert stored(client, folder) == ["small.png"]
    assert sent.to(bucket, "PUT") == []


@pytest.mark.usefixtures("allowed")
def test_an_image_that_exists_is_found_before_the_file_is_sent(
    visitor: Visit,
    server: Server,
    client: httpx.Client,
    folder: str,
    film: Path,
    sent: Sent,
    bucket: str,
) -> None:
    save(client, f"{folder}film.mp4", picture(1))
    enter(visitor, server, folder)
    upload(visitor, film)
    taken = rows(visitor, "taken")
    expect(taken).to_contain_text("An image with this name already exists.")
    assert sent.to(bucket, "PUT") == []

    taken.get_by_role("button", name="Replace").click()
    expect_uploaded(visitor)
    assert client.head(f"{IMAGES}/{folder}film.mp4").headers["content-type"] == "video/mp4"


@pytest.mark.usefixtures("allowed")
def test_a_completion_is_repeated_and_the_file_is_sent_once(
    visitor: Visit,
    server: Server,
    client: httpx.Client,
    folder: str,
    film: Path,
    sent: Sent,
    bucket: str,
) -> None:
    visitor.page.clock.install()
    lost: list[int] = []

    def lose_answer(route: Route) -> None:
        lost.append(route.fetch().status)
        route.abort()

    visitor.page.route(COMPLETE, lose_answer)
    enter(visitor, server, folder)
    upload(visitor, film)
    failed = rows(visitor, "failed")

    def is_given_up() -> bool:
        visitor.page.clock.fast_forward(20_000)
        return failed.count() == 1

    until(is_given_up)
    expect(failed).to_contain_text("The server cannot be reached.")
    assert lost == [200] * 5

    visitor.page.unroute(COMPLETE)
    failed.get_by_role("button", name="Try again").click()
    expect_uploaded(visitor)
    assert stored(client, folder) == ["film.mp4"]
    assert len(sent.to(bucket, "PUT")) == 1


@pytest.mark.usefixtures("allowed")
def test_a_file_that_is_in_the_bucket_already_is_completed(
    visitor: Visit, server: Server, client: httpx.Client, folder: str, film: Path, bucket: str
) -> None:
    in_the_bucket = f"http://{bucket}/**"

    def lose_answer(route: Route) -> None:
        headers = {
            name: value
            for name, value in route.request.all_headers().items()
            if name in ("content-type", "content-disposition", "if-none-match")
        }
        url, content = route.request.url, film.read_bytes()
        assert httpx.put(url, headers=headers, content=content).status_code == 200
        route.abort()

    visitor.page.route(in_the_bucket, lose_answer)
    enter(visitor, server, folder)
    upload(visitor, film)
    failed = rows(visitor, "failed")
    expect(failed).to_contain_text("The connection was lost")
    visitor.page.unroute(in_the_bucket)

    with visitor.page.expect_response(lambda one: one.request.method == "PUT") as answered:
        failed.get_by_role("button", name="Try again").click()
    expect_uploaded(visitor)
    assert answered.value.status == 412
    assert stored(client, folder) == ["film.mp4"]


@pytest.mark.usefixtures("allowed")
def test_an_upload_to_the_bucket_is_cancelled_and_ends_with_the_session(
    visitor: Visit,
    server: Server,
    operator: Operator,
    client: httpx.Client,
    folder: str,
    film: Path,
) -> None:
    visitor.page.route(f"{server.url}{GRANTS}", lambda _: None)
    enter(visitor, server, folder)
    upload(visitor, film)
    visitor.page.get_by_role("button", name="Cancel the upload of").click()
    expect_uploaded(visitor, "0 of 0 files uploaded.")

    upload(visitor, film)
    expect(rows(visitor, "under")).to_have_count(1)
    visitor.page.get_by_role("button", name="Sign out").click()
    enter(visitor, server, folder)
    expect(visitor.page.locator("#uploads")).to_be_hidden()
    assert operator.keys("temp/") == stored(client, folder) == []


def test_a_file_that_the_bucket_cannot_take_is_sent_to_the_server(
    browser: Browser, tmp_path: Path, folder: str, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubR2()
    stub.copy_conditions = Conditions.IGNORED
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(served(stub)):
        for name, value in {**stub.variables, "R2_PUBLIC_URL": ""}.items():
            monkeypatch.setenv(name, value)
        host = urlsplit(stub.endpoint_url).netloc
        with running(tmp_path) as server, visit(browser, server, hosts=(host,)) as visitor:
            enter(visitor, server, folder)
            upload(visitor, film)
            expect_uploaded(visitor)

        assert stub.objects[f"compute/{folder}film.mp4"].body == film.read_bytes()


def test_a_page_of_another_origin_uploads_and_completes_as_documented(
    browser: Browser,
    elsewhere: Site,
    seaweed: SeaweedFS,
    operator: Operator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (snippet,) = blocks("docs/uploads.md", "js")
    asked = 'await (await fetch("/my-backend/grant")).json()'
    assert asked in snippet
    script = f"""async ({{ given, stillroom, text }}) => {{
      const file = new Blob([text]);
      {snippet.replace(asked, "given")}
    }}"""
    for name, value in bucket_variables(seaweed).items():
        monkeypatch.setenv(name, value)
    with (
        running(tmp_path, cors_origins=elsewhere.url) as server,
        server.client() as client,
        pages_may_upload(operator, elsewhere.url),
        browser.new_page() as page,
    ):
        page.goto(elsewhere.url)
        given = client.post(GRANTS, json={"path": "a.txt", "size": 5}).json()
        page.evaluate(script, {"given": given, "stillroom": server.url, "text": "words"})

        read = client.get(f"{IMAGES}/a.txt", follow_redirects=True)
        assert (read.status_code, read.content) == (200, b"words")
