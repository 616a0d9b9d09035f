"""Large files go to the bucket itself, with a grant and past the CORS rules of a real bucket."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, Locator, Request, Route, expect

from acceptance.pasting import blocks
from browser.site import Site
from browser.visiting import Visit, fragment, save, stored, visit
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
class Uploader:
    """A visitor who uploads to one folder, and the requests of the page, but for preflights.

    Attributes:
        bucket: Host and port of the bucket.
    """

    visitor: Visit
    server: Server
    client: httpx.Client
    folder: str
    bucket: str
    sent: list[Request] = field(default_factory=list)

    def note(self, request: Request) -> None:
        self.sent.append(request)

    def enter(self) -> None:
        self.visitor.sign_in(self.server.token(), fragment(self.folder))
        expect(self.visitor.page.locator("#upload")).to_be_visible()

    def choose(self, file: Path) -> None:
        self.visitor.page.locator("#files").set_input_files(file)

    def upload(self, file: Path) -> None:
        self.enter()
        self.choose(file)

    def rows(self, kind: str) -> Locator:
        found: Locator = self.visitor.page.locator(f".upload.{kind}")
        return found

    def expect_uploaded(self, said: str = "1 of 1 file uploaded.") -> None:
        expect(self.visitor.page.locator("#uploads-told")).to_have_text(said)

    @property
    def stored(self) -> list[str]:
        return stored(self.client, self.folder)

    @property
    def puts(self) -> list[Request]:
        """Uploads to the bucket."""
        ours = (one for one in self.sent if urlsplit(one.url).netloc == self.bucket)
        return [one for one in ours if one.method == "PUT"]


@contextlib.contextmanager
def running_on(variables: Mapping[str, str], folder: Path, **settings: Any) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            started = stack.enter_context(running(folder, **settings))
        yield started


@contextlib.contextmanager
def uploading(browser: Browser, server: Server, bucket: str, folder: str) -> Iterator[Uploader]:
    with server.client() as client, visit(browser, server, hosts=(bucket,)) as visitor:
        uploader = Uploader(visitor, server, client, folder, bucket)
        visitor.page.on("request", uploader.note)
        yield uploader


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seaweed: SeaweedFS) -> Iterator[Server]:
    with running_on(bucket_variables(seaweed), tmp_path_factory.mktemp("direct")) as started:
        started.follows = True
        yield started
    seaweed.empty()


@pytest.fixture
def uploader(
    browser: Browser, server: Server, seaweed: SeaweedFS, folder: str
) -> Iterator[Uploader]:
    with uploading(browser, server, urlsplit(seaweed.endpoint_url).netloc, folder) as began:
        yield began


@pytest.fixture
def allowed(server: Server, operator: Operator) -> Iterator[None]:
    with pages_may_upload(operator, server.url):
        yield


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    file.write_bytes(Mp4(frames()).file(before=LARGE))
    return file


def test_a_large_file_is_sent_to_the_bucket_once_its_cors_rule_allows_the_page(
    uploader: Uploader, operator: Operator, film: Path
) -> None:
    visitor, server = uploader.visitor, uploader.server
    uploader.enter()
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
    uploader.choose(film)
    failed = uploader.rows("failed")
    expect(failed).to_contain_text(f"CORS rule does not allow {server.url}")
    expect(failed).to_contain_text("stillroom doctor")
    visitor.picture("no-cors-rule")
    visitor.expect_accessible()
    assert operator.keys("temp/") == uploader.stored == []

    with pages_may_upload(operator, server.url):
        failed.get_by_role("button", name="Try again").click()
        expect(uploader.rows("under").locator("progress[value]")).to_be_visible()
        uploader.expect_uploaded()

    film_url = f"{IMAGES}/{uploader.folder}film.mp4"
    assert uploader.client.get(film_url).content == film.read_bytes()
    assert operator.keys("temp/") == []
    posts = [one.url for one in uploader.sent if one.method == "POST"]
    assert any(GRANTS in url for url in posts)
    assert not any(IMAGES in url for url in posts)
    put = uploader.puts[-1].all_headers()
    assert put["content-type"] == "application/octet-stream"
    assert put["content-disposition"] == "attachment"
    assert put["if-none-match"] == "*"
    assert "authorization" not in put
    between = [part for part in visitor.page.evaluate("progress") if 0 < part < 1]
    assert between == sorted(between)
    assert between


@pytest.mark.usefixtures("allowed")
def test_a_small_file_of_a_bucket_is_sent_to_the_server(uploader: Uploader, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    small.write_bytes(picture(1))
    uploader.upload(small)
    uploader.expect_uploaded()

    assert uploader.stored == ["small.png"]
    assert uploader.puts == []


@pytest.mark.usefixtures("allowed")
def test_an_image_that_exists_is_found_before_the_file_is_sent(
    uploader: Uploader, film: Path
) -> None:
    path = f"{uploader.folder}film.mp4"
    save(uploader.client, path, picture(1))
    uploader.upload(film)
    taken = uploader.rows("taken")
    expect(taken).to_contain_text("An image with this name already exists.")
    assert uploader.puts == []

    taken.get_by_role("button", name="Replace").click()
    uploader.expect_uploaded()
    assert uploader.client.head(f"{IMAGES}/{path}").headers["content-type"] == "video/mp4"


@pytest.mark.usefixtures("allowed")
def test_a_completion_is_repeated_and_the_file_is_sent_once(uploader: Uploader, film: Path) -> None:
    page = uploader.visitor.page
    page.clock.install()
    lost: list[int] = []

    def lose_answer(route: Route) -> None:
        lost.append(route.fetch().status)
        route.abort()

    page.route(COMPLETE, lose_answer)
    uploader.upload(film)
    failed = uploader.rows("failed")

    def is_given_up() -> bool:
        page.clock.fast_forward(20_000)
        return failed.count() == 1

    until(is_given_up)
    expect(failed).to_contain_text("The server cannot be reached.")
    assert lost == [200] * 5

    page.unroute(COMPLETE)
    failed.get_by_role("button", name="Try again").click()
    uploader.expect_uploaded()
    assert uploader.stored == ["film.mp4"]
    assert len(uploader.puts) == 1


@pytest.mark.usefixtures("allowed")
def test_a_file_that_is_in_the_bucket_already_is_completed(uploader: Uploader, film: Path) -> None:
    page, in_the_bucket = uploader.visitor.page, f"http://{uploader.bucket}/**"

    def lose_answer(route: Route) -> None:
        headers = {
            name: value
            for name, value in route.request.all_headers().items()
            if name in ("content-type", "content-disposition", "if-none-match")
        }
        url, content = route.request.url, film.read_bytes()
        assert httpx.put(url, headers=headers, content=content).status_code == 200
        route.abort()

    page.route(in_the_bucket, lose_answer)
    uploader.upload(film)
    failed = uploader.rows("failed")
    expect(failed).to_contain_text("The connection was lost")
    page.unroute(in_the_bucket)

    with page.expect_response(lambda one: one.request.method == "PUT") as answered:
        failed.get_by_role("button", name="Try again").click()
    uploader.expect_uploaded()
    assert answered.value.status == 412
    assert uploader.stored == ["film.mp4"]


@pytest.mark.usefixtures("allowed")
def test_an_upload_to_the_bucket_is_cancelled_and_ends_with_the_session(
    uploader: Uploader, operator: Operator, film: Path
) -> None:
    page = uploader.visitor.page
    page.route(f"{uploader.server.url}{GRANTS}", lambda _: None)
    uploader.upload(film)
    page.get_by_role("button", name="Cancel the upload of").click()
    uploader.expect_uploaded("0 of 0 files uploaded.")

    uploader.choose(film)
    expect(uploader.rows("under")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    uploader.enter()
    expect(page.locator("#uploads")).to_be_hidden()
    assert operator.keys("temp/") == uploader.stored == []


def test_a_file_that_the_bucket_cannot_take_is_sent_to_the_server(
    browser: Browser, tmp_path: Path, folder: str, film: Path
) -> None:
    stub = StubR2()
    stub.copy_conditions = Conditions.IGNORED
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(served(stub)):
        host = urlsplit(stub.endpoint_url).netloc
        with (
            running_on({**stub.variables, "R2_PUBLIC_URL": ""}, tmp_path) as server,
            uploading(browser, server, host, folder) as uploader,
        ):
            uploader.upload(film)
            uploader.expect_uploaded()

        assert stub.objects[f"compute/{folder}film.mp4"].body == film.read_bytes()


def test_a_page_of_another_origin_uploads_and_completes_as_documented(
    browser: Browser, elsewhere: Site, seaweed: SeaweedFS, operator: Operator, tmp_path: Path
) -> None:
    (snippet,) = blocks("docs/uploads.md", "js")
    asked = 'await (await fetch("/my-backend/grant")).json()'
    assert asked in snippet
    script = f"""async ({{ given, stillroom, text }}) => {{
      const file = new Blob([text]);
      {snippet.replace(asked, "given")}
    }}"""
    with (
        running_on(bucket_variables(seaweed), tmp_path, cors_origins=elsewhere.url) as server,
        server.client() as client,
        pages_may_upload(operator, elsewhere.url),
        browser.new_page() as page,
    ):
        page.goto(elsewhere.url)
        given = client.post(GRANTS, json={"path": "a.txt", "size": 5}).json()
        page.evaluate(script, {"given": given, "stillroom": server.url, "text": "words"})

        read = client.get(f"{IMAGES}/a.txt", follow_redirects=True)
        assert (read.status_code, read.content) == (200, b"words")
