"""Chromium meets stored files that were made to attack it: nothing runs, and images show."""

import base64
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page
from playwright.sync_api import Error as PlaywrightError

from browser.site import Site
from browser.visiting import LONGEST_MS
from running import IMAGES, Server
from videos import Mp4, box, frames, ftyp

pytestmark = pytest.mark.slow

SIGNED_URLS = f"{IMAGES.removesuffix('images')}signed-urls"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        context.set_default_timeout(LONGEST_MS)
        yield context.new_page()


# What is stored


def script(beacon: str) -> bytes:
    """Does all that can be noticed."""
    return (
        f"document.title='owned';window.owned=1;try{{top.postMessage('owned','*')}}catch(e){{}}"
        f"new Image().src='{beacon}/script';"
    ).encode()


def html(beacon: str) -> bytes:
    return (
        b"<!DOCTYPE html><title>x</title><script>" + script(beacon) + b"</script>"
        b"<img src=x onerror=\"new Image().src='" + beacon.encode() + b"/handler'\">"
        b"<meta http-equiv=refresh content='0;url=" + beacon.encode() + b"/refresh'>"
    )


def svg(beacon: str) -> bytes:
    return (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="'
        + script(beacon).replace(b'"', b"&quot;")
        + b'"><script>' + script(beacon) + b'</script><rect width="9" height="9"/></svg>'
    )  # fmt: skip


def xhtml(beacon: str) -> bytes:
    return (
        b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><script>'
        + script(beacon) + b"</script></html>"
    )  # fmt: skip


def css(beacon: str) -> bytes:
    return f"p{{background:url({beacon}/css)}}@import '{beacon}/import';".encode()


def gif_and_script(beacon: str) -> bytes:
    """An image, and an assignment to `GIF89a` with a comment in it."""
    return GIF + b"*/=1;" + script(beacon)


def jpeg_and_html(beacon: str) -> bytes:
    """A JPEG with a comment that is a page."""
    comment = html(beacon)
    return JPEG[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + JPEG[2:]


def video_and_html(beacon: str) -> bytes:
    """A video with a page in front of its samples."""
    return ftyp() + box(b"free", html(beacon)) + Mp4(frames()).file()[len(ftyp()) :]


def pdf(beacon: str) -> bytes:
    action = f"<</S/JavaScript/JS(app.launchURL\\('{beacon}/pdf'\\))>>"
    return (
        f"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction{action}>>endobj\n"
        "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>"
    ).encode()


# 10,799 pixels wide, since that is spelled `/*`
GIF = (
    b"GIF89a/*\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00"
    b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b"
)
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////"
    "////////////////////////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)

ATTACKS = {
    # name: (what makes it, the type that the client declares, whether it is attached)
    "drawing.svg": (svg, "image/svg+xml", True),
    "drawing.png": (svg, "image/svg+xml", True),
    "page.html": (html, "text/html", True),
    "page.gif": (html, "text/html", True),
    "page": (html, "text/html", True),
    "page.txt": (lambda beacon: b"text " + html(beacon), "text/html", True),
    "page.xml": (xhtml, "application/xhtml+xml", True),
    "page.json": (lambda beacon: b"{}" + html(beacon), "text/html", True),
    "late-page.png": (lambda beacon: b" " * 2000 + html(beacon), "text/html", True),
    "late-drawing.webp": (lambda beacon: b" " * 2000 + svg(beacon), "image/svg+xml", True),
    "script.js": (script, "text/javascript", True),
    "script.png": (script, "text/javascript", True),
    "style.css": (css, "text/css", True),
    "style.gif": (css, "text/css", True),
    "script-and-image.gif": (gif_and_script, "text/javascript", False),
    "script-and-image.js": (gif_and_script, "text/javascript", False),
    "page-and-image.jpg": (jpeg_and_html, "text/html", False),
    "page-and-image.html": (jpeg_and_html, "text/html", False),
    "page-and-video.mp4": (video_and_html, "text/html", False),
    "page-and-video.html": (video_and_html, "text/html", False),
    "paper.pdf": (pdf, "application/pdf", True),
    "paper.png": (pdf, "application/pdf", True),
}
attacks = pytest.mark.parametrize("name", ATTACKS)


def stored(server: Server, name: str, data: bytes, declared: str) -> str:
    """Save a file, and give a URL that needs no token."""
    with server.client() as client:
        saved = client.post(f"{IMAGES}/{name}", files={"file": (name, data, declared)})
        assert saved.status_code == 200, saved.text
        return str(client.post(SIGNED_URLS, json={"path": name}).json()["url"])


def shown(page: Page, elsewhere: Site, url: str) -> None:
    """Open the page that shows `url` in every way, until all of them are through."""
    elsewhere.beacons.clear()
    page.goto(elsewhere.page(url), wait_until="load")
    # Whatever ran has asked for its beacon before this, once the styles were applied.
    page.evaluate("() => new Promise(requestAnimationFrame).then(() => fetch('/last'))")


@attacks
def test_nothing_stored_runs_in_a_page_that_shows_it(
    server: Server, elsewhere: Site, page: Page, name: str
) -> None:
    make, declared, is_attached = ATTACKS[name]
    url = stored(server, name, make(f"{elsewhere.url}/beacon"), declared)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))

    shown(page, elsewhere, url)

    assert elsewhere.beacons == set()
    assert page.title() == "embedding"
    assert page.evaluate("[typeof owned, heard]") == ["undefined", []]
    assert set(page.evaluate("refused")) == {"script", "module", "stylesheet"}
    if not is_attached:  # others are stopped earlier, as opaque answers of another origin
        assert [text for text in said if "execute script" in text and "MIME type" in text], said


@attacks
def test_nothing_stored_runs_when_it_is_opened(
    server: Server, elsewhere: Site, page: Page, name: str
) -> None:
    make, declared, is_attached = ATTACKS[name]
    data = make(f"{elsewhere.url}/beacon")
    url = stored(server, name, data, declared)
    elsewhere.beacons.clear()

    if is_attached:
        with page.expect_download() as download, pytest.raises(PlaywrightError):
            page.goto(url)
        assert download.value.path().read_bytes() == data
        assert page.url == "about:blank"
    else:
        page.goto(url)
        assert page.evaluate("document.contentType").startswith(("image/", "video/"))
        assert page.title() != "owned"

    assert elsewhere.beacons == set()


@pytest.mark.parametrize("name", [name for name in ATTACKS if "paper" not in name])
def test_the_same_file_runs_where_the_clients_word_is_believed(
    elsewhere: Site, page: Page, name: str
) -> None:
    make, declared, _ = ATTACKS[name]
    elsewhere.files[name] = (make(f"{elsewhere.url}/beacon"), declared)

    shown(page, elsewhere, f"{elsewhere.url}/files/{name}")

    ends = time.monotonic() + 60
    while not elsewhere.beacons:
        assert time.monotonic() < ends, "the attack is none"
        page.evaluate("() => new Promise(requestAnimationFrame)")


# Images show


@pytest.mark.parametrize(
    "name", ["image.png", "image.jpg", "image.webp", "image.gif", "image.bmp", "image", "image.svg"]
)
def test_an_image_shows(server: Server, elsewhere: Site, page: Page, name: str) -> None:
    data = raster(page, name)
    url = stored(server, name, data, "text/html")

    shown(page, elsewhere, url)

    assert page.evaluate("document.getElementById('img').naturalWidth") > 0
    assert httpx.get(url).headers.get("content-disposition") is None
    page.goto(url)
    assert page.evaluate("document.images[0].naturalWidth") > 0


@pytest.mark.parametrize("name", ["script-and-image.gif", "page-and-image.jpg"])
def test_what_is_an_image_too_shows(server: Server, elsewhere: Site, page: Page, name: str) -> None:
    make, declared, _ = ATTACKS[name]
    shown(page, elsewhere, stored(server, name, make(f"{elsewhere.url}/beacon"), declared))

    assert page.evaluate("document.getElementById('img').naturalWidth") > 0


def raster(page: Page, name: str) -> bytes:
    """An image as Chromium itself writes it, or a small one by hand."""
    if name.endswith("gif"):
        return GIF
    if name.endswith("bmp"):
        pixels = b"\xff\x00\x00\x00"
        return (
            b"BM" + (54 + len(pixels)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
            + (40).to_bytes(4, "little") + (1).to_bytes(4, "little") * 2
            + b"\x01\x00\x18\x00" + bytes(24) + pixels
        )  # fmt: skip
    kind = {"jpg": "jpeg", "webp": "webp"}.get(name.rpartition(".")[2], "png")
    data = page.evaluate(
        f"""() => {{ const canvas = document.createElement("canvas");
        canvas.getContext("2d").fillRect(0, 0, 9, 9);
        return canvas.toDataURL("image/{kind}"); }}"""
    )
    return base64.b64decode(data.partition(",")[2])


def test_the_page_of_the_document_works_under_its_policy_and_is_not_framed(
    server: Server, page: Page, elsewhere: Site
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{server.url}/docs")
    page.get_by_text("Save Image", exact=True).click()
    page.get_by_role("button", name="Try it out").click()

    assert [text for text in complaints if "Content Security Policy" in text] == []

    for path in ("/docs", "/healthz", "/api/v1/storage/images"):
        page.goto(elsewhere.url)
        page.evaluate(
            "source => new Promise(loaded => { const frame = document.createElement('iframe');"
            " frame.onload = loaded; frame.src = source; document.body.append(frame) })",
            f"{server.url}{path}",
        )
        page.frames[-1].wait_for_url("chrome-error:**", wait_until="commit")
