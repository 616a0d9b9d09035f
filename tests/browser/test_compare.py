"""Two to four pictures are compared: zoomed in step, with the differences of how they were made."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
from browser.test_folders import choose, press
from browser.test_narrow import expect_fits
from browser.visiting import Visit, fragment, on_small_screens, save, small_screen, visit
from generation.carriers import chunk
from running import Server

pytestmark = pytest.mark.slow

LIBRARY = "/api/v1/media-resources"

FIRST = """a red fox in deep snow, oil on canvas <lora:ink:0.8>
Negative prompt: blurry, text
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 300x200, Model: sdxl_base"""


def made(number: int, parameters: str = "") -> bytes:
    png = scenery(number, edge=300, form="PNG")
    text = chunk(b"tEXt", f"parameters\0{parameters}".encode("latin-1")) if parameters else b""
    return png[:33] + text + png[33:]


@pytest.fixture
def four(client: httpx.Client, folder: str) -> str:
    """A folder of four pictures, of which the second and the third differ from the first."""
    second = FIRST.replace("red fox", "grey wolf").replace("Seed: 42", "Seed: 43")
    third = FIRST.replace(" <lora:ink:0.8>", "").replace("sdxl_base", "flux")
    for name, data in {
        "a.png": made(1, FIRST),
        "b.png": made(2, second),
        "c.png": made(3, third),
        "d.png": made(4),
    }.items():
        save(client, f"{folder}{name}", data)
    return folder


def dialog(visitor: Visit) -> Any:
    return visitor.page.get_by_role("dialog", name="Compare")


def column(visitor: Visit, name: str) -> Any:
    return dialog(visitor).get_by_role("region", name=name, exact=True)


def turns(visitor: Visit) -> list[str]:
    return [
        str(one)
        for one in dialog(visitor)
        .locator(".picture")
        .evaluate_all("all => all.map(one => one.style.transform)")
    ]


def row(visitor: Visit, name: str, label: str) -> Any:
    return column(visitor, name).locator(
        "dl > div", has=visitor.page.get_by_text(label, exact=True)
    )


def test_keys_choose_two_and_compare_them_word_by_word(
    visitor: Visit, server: Server, four: str
) -> None:
    key = visitor.page.keyboard.press
    visitor.sign_in(server.token(), fragment(four))
    visitor.cell("a.png").focus()
    key("Space")
    key("c")
    expect(visitor.text("Select 2 to 4 images to compare them.")).to_be_visible()
    key("ArrowRight")
    key("Space")
    key("c")
    expect(dialog(visitor)).to_be_visible()
    expect(dialog(visitor).locator(".picture.ready")).to_have_count(2)

    expect(row(visitor, "a.png", "Prompt").locator("del")).to_have_text(["red fox"])
    expect(row(visitor, "b.png", "Prompt").locator("ins")).to_have_text(["grey wolf"])
    expect(row(visitor, "b.png", "Prompt")).to_contain_text("a grey wolf in deep snow, oil on")
    expect(row(visitor, "a.png", "Seed").locator("del")).to_have_text(["42"])
    expect(row(visitor, "b.png", "Seed").locator("ins")).to_have_text(["43"])
    expect(column(visitor, "a.png").locator("dt")).to_have_text(["Prompt", "Seed"])
    same = dialog(visitor).locator(".same")
    for text in ("blurry, text", "sdxl_base", "ink (0.8)", "Euler a", "20"):
        expect(same).to_contain_text(text)
    visitor.picture("compare")
    visitor.expect_accessible()

    key("+")
    visitor.page.wait_for_function("document.querySelectorAll('.compare .stage.close').length == 2")
    assert all("scale(1.4)" in turn for turn in turns(visitor))
    key("ArrowRight")
    key("ArrowDown")
    assert all("translate(0px, 0px)" not in turn for turn in turns(visitor))
    key("0")
    assert all(turn == "translate(0px, 0px) scale(1)" for turn in turns(visitor))
    key("Escape")
    expect(dialog(visitor)).to_be_hidden()
    expect(visitor.cell("b.png")).to_be_focused()
    expect(visitor.text("2 selected")).to_be_visible()


def test_a_mouse_turns_all_pictures_in_step(visitor: Visit, server: Server, four: str) -> None:
    visitor.sign_in(server.token(), fragment(four))
    choose(visitor, "a.png", "c.png")
    press(visitor, "Compare")
    expect(dialog(visitor).locator(".picture.ready")).to_have_count(2)
    dialog(visitor).get_by_role("button", name="Zoom in").click()
    dialog(visitor).get_by_role("button", name="Zoom in").click()
    box = column(visitor, "c.png").locator(".stage").bounding_box()
    visitor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visitor.page.mouse.wheel(0, -600)
    visitor.page.wait_for_function(
        "[...document.querySelectorAll('.compare .picture')].every(one => "
        "Number(/scale\\((.*)\\)/.exec(one.style.transform)[1]) > 3)"
    )
    before = turns(visitor)
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + box["width"] / 2 + 30, box["y"] + box["height"] / 2 + 20)
    visitor.page.mouse.up()
    after = turns(visitor)
    assert all(old != new for old, new in zip(before, after, strict=True)), (before, after)
    shares = visitor.page.evaluate(
        """() => [...document.querySelectorAll(".compare .picture")].map((one) => {
          const [, x] = /translate\\((.*)px, /.exec(one.style.transform);
          return Number(x) / one.offsetWidth;
        })"""
    )
    assert shares[0] == pytest.approx(shares[1], abs=0.01)


def test_four_are_compared_with_the_first_and_what_is_missing_is_said(
    visitor: Visit, server: Server, four: str
) -> None:
    visitor.sign_in(server.token(), fragment(four))
    choose(visitor, "a.png", "b.png", "c.png", "d.png")
    press(visitor, "Compare")
    expect(dialog(visitor).locator(".picture.ready")).to_have_count(4)
    expect(dialog(visitor)).to_contain_text("Marked: what differs from a.png")
    expect(row(visitor, "a.png", "Prompt").locator("del")).to_have_text(
        [
            "red fox",
            "<lora:ink:0.8>",
        ]
    )
    expect(row(visitor, "c.png", "Model").locator("ins")).to_have_text(["flux"])
    expect(row(visitor, "c.png", "LoRAs").locator("ins")).to_have_text(["none"])
    expect(row(visitor, "b.png", "LoRAs").locator("ins")).to_have_count(0)
    expect(row(visitor, "d.png", "Prompt").locator("ins")).to_have_text(["none"])
    expect(dialog(visitor).locator(".same dl")).to_have_count(0)
    visitor.picture("compare-four")
    visitor.expect_accessible()
    visitor.page.go_back()
    expect(dialog(visitor)).to_be_hidden()


def test_words_are_compared_in_any_script_and_long_texts_too(
    visitor: Visit, server: Server
) -> None:
    visitor.sign_in(server.token())
    compared = """async ([text, ...others]) => {
      const { partsOf } = await import(document.querySelector("[href$='words.js']").href);
      const parts = partsOf(text, others).filter(({ isCommon }) => !isCommon);
      return parts.map((part) => part.text.trim());
    }"""

    def differences(*texts: str) -> list[str]:
        return [str(one) for one in visitor.page.evaluate(compared, texts)]

    assert differences("a b c d", "a c b d") in (["b"], ["c"])
    assert differences("weight 1.25, (fox:1.1)", "weight 1.5, (fox:1.1)") == ["1.25"]
    assert differences("雪の中の狐", "雪の中の狼") == ["狐"]
    assert differences("naïve fox", "naïve  fox") == []
    assert differences("red fox", "red fox", "fox") == ["red"]
    assert differences("", "fox") == []
    long = " ".join(str(number) for number in range(9000))
    assert differences(f"a {long} z", f"b {long} z") == ["a"]
    backwards = " ".join(reversed(long.split()))
    assert differences(f"a {long} z", f"a {backwards} z") == [long]


def test_more_than_four_and_folders_are_not_compared(
    visitor: Visit, server: Server, client: httpx.Client, four: str
) -> None:
    save(client, f"{four}e.png", made(5))
    save(client, f"{four}sub/f.png", made(6))
    visitor.sign_in(server.token(), fragment(four))
    choose(visitor, "a.png", "b.png")
    compare = visitor.page.get_by_label("Selected images").get_by_role("button", name="Compare")
    expect(compare).to_be_visible()
    choose(visitor, "sub")
    expect(compare).to_be_hidden()
    choose(visitor, "sub", "c.png", "d.png")
    expect(compare).to_be_visible()
    choose(visitor, "e.png")
    expect(compare).to_be_hidden()


def test_images_of_the_library_are_compared_too(
    visitor: Visit, server: Server, client: httpx.Client, four: str
) -> None:
    for name in "ab":
        key = {"storage_key": f"compute/{four}{name}.png", "relocate": False}
        client.post(f"{LIBRARY}/ingest", json=key).raise_for_status()
    visitor.sign_in(server.token(), "#library")
    choose(visitor, "a.png", "b.png")
    press(visitor, "Compare")
    expect(dialog(visitor).locator(".picture.ready")).to_have_count(2)
    expect(column(visitor, "a.png").locator("dt").first).to_have_text("Prompt")


@on_small_screens
def test_a_comparison_fits_a_phone_and_a_tablet(
    browser: Browser, server: Server, four: str, width: int, scheme: str
) -> None:
    with visit(browser, server, **small_screen(width, scheme)) as visitor:
        visitor.sign_in(server.token(), fragment(four))
        expect(visitor.page.locator(".cell.loaded")).to_have_count(4)
        for name in ("a.png", "b.png", "c.png"):
            visitor.cell(name).focus()
            visitor.page.keyboard.press("Space")
        expect(visitor.text("3 selected")).to_be_visible()
        expect_fits(visitor, width)
        press(visitor, "Compare")
        expect(dialog(visitor).locator(".picture.ready")).to_have_count(3)
        expect(column(visitor, "c.png").locator("dt").first).to_have_text("Prompt")
        expect_fits(visitor, width)
        visitor.picture(f"compare-{width}")
        visitor.expect_accessible()
        first, second = (column(visitor, name).bounding_box() for name in ("a.png", "b.png"))
        assert (second["y"] > first["y"]) is (width < 600)
        column(visitor, "c.png").locator("dl").scroll_into_view_if_needed()
        expect(column(visitor, "c.png").locator("dt").first).to_be_in_viewport()
