"""Files and folders are uploaded: chosen, dropped, refused, and in place of others."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from browser.visiting import Visit, a_file, fragment, save, stored
from pictures import picture
from running import IMAGES, Server, running

pytestmark = pytest.mark.slow

MIB = 1024**2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("gallery"), max_upload_bytes=str(2 * MIB)) as started:
        yield started


def test_ten_files_are_uploaded_shown_opened_and_deleted(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.text("Nothing here yet")).to_be_visible()
    visitor.picture("empty-folder")
    visitor.page.locator("#files").set_input_files(
        [a_file(f"{number}.png", picture(number)) for number in range(10)]
    )

    expect(visitor.page.locator("#uploads-told")).to_have_text("10 of 10 files uploaded.")
    visitor.expect_names(*(f"{number}.png" for number in range(10)))
    expect(visitor.page.locator(".cell.loaded")).to_have_count(10)
    visitor.cell("7.png").click()
    visitor.expect_picture("7.png")
    visitor.page.keyboard.press("Escape")
    expect(visitor.viewer).to_be_hidden()  # the history closes it, a moment later
    visitor.page.keyboard.press("Control+a")
    visitor.page.keyboard.press("Delete")
    expect(visitor.page.get_by_role("heading", name="Delete 10 images?")).to_be_visible()
    visitor.picture("delete")
    visitor.expect_accessible()
    visitor.page.get_by_role("button", name="Cancel").click()
    expect(visitor.page.locator(".question[open]")).to_have_count(0)  # closed a moment later
    assert len(stored(client, folder)) == 10
    visitor.page.keyboard.press("Delete")
    visitor.page.locator(".question[open]").get_by_role("button", name="Delete", exact=True).click()
    expect(visitor.text("Nothing here yet")).to_be_visible()
    assert stored(client, folder) == []


def test_a_dropped_folder_is_uploaded_with_its_folders(
    visitor: Visit, server: Server, client: httpx.Client, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "run/deep").mkdir(parents=True)
    (tmp_path / "run/a.png").write_bytes(picture(1))
    (tmp_path / "run/deep/e\u0301.png").write_bytes(picture(2))  # as macOS spells it
    (tmp_path / "run/.DS_Store").write_bytes(b"x")
    visitor.sign_in(server.token(), fragment(folder))
    visitor.page.locator("#folder").set_input_files(tmp_path / "run")
    visitor.cell("run").click()

    visitor.expect_names("a.png", "deep")
    expect(visitor.page.locator("#uploads-told")).to_have_text("2 of 2 files uploaded.")
    assert stored(client, folder) == ["run/a.png", "run/deep/\u00e9.png"]


def test_what_is_dropped_is_uploaded(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.text("Nothing here yet")).to_be_visible()
    transfer = visitor.page.evaluate_handle(
        """bytes => { const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
        return transfer; }""",
        list(picture(1)),
    )
    visitor.page.dispatch_event("#content", "dragover", {"dataTransfer": transfer})
    expect(visitor.text("Drop to upload to")).to_be_visible()
    visitor.page.dispatch_event("#content", "drop", {"dataTransfer": transfer})

    visitor.expect_names("dropped.png")
    expect(visitor.page.locator("#drop")).to_be_hidden()
    assert client.get(f"{IMAGES}/{folder}dropped.png").content == picture(1)


def test_a_refusal_names_the_file_and_says_why(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}taken", picture(1))
    visitor.sign_in(server.token(), fragment(folder))
    visitor.page.locator("#files").set_input_files(
        [
            a_file("huge.png", bytes(2 * MIB + 1)),
            a_file("empty.png", b""),
            a_file("zero\u200bwidth.png", picture(1)),
            a_file("fine.png", picture(2)),
        ]
    )

    rows = visitor.page.locator(".upload.failed")
    expect(rows).to_have_count(3)
    expect(rows.filter(has_text="empty.png")).to_contain_text("The file is empty.")
    expect(rows.filter(has_text="huge.png")).to_contain_text(
        "over the limit of this server, 2.1 MB"
    )
    expect(rows.filter(has_text="width.png")).to_contain_text("the character U+200B is not allowed")
    expect(visitor.page.locator("#uploads-told")).to_have_text("1 of 4 files uploaded, 3 failed.")
    visitor.picture("refused")
    visitor.expect_accessible()
    assert stored(client, folder) == ["fine.png", "taken"]
    visitor.page.get_by_role("button", name="Close uploads").click()
    expect(visitor.page.locator("#uploads")).to_be_hidden()


def test_an_image_that_is_there_is_replaced_only_by_who_says_so(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for number in range(3):
        save(client, f"{folder}{number}.png", picture(number))
    visitor.sign_in(server.token(), fragment(folder))
    visitor.page.locator("#files").set_input_files(
        [a_file(f"{number}.png", picture(number + 10)) for number in range(3)]
    )
    expect(visitor.text("An image with this name already exists.")).to_have_count(3)
    rows = visitor.page.locator(".upload")
    rows.filter(has_text="0.png").get_by_role("button", name="Skip").click()
    expect(rows).to_have_count(2)
    assert client.get(f"{IMAGES}/{folder}1.png").content == picture(1)

    visitor.page.get_by_role("button", name="Replace all").click()
    expect(visitor.page.locator("#uploads-told")).to_have_text("2 of 3 files uploaded, 1 skipped.")
    contents = [client.get(f"{IMAGES}/{folder}{number}.png").content for number in range(3)]
    assert contents == [picture(0), picture(11), picture(12)]
