"""How a picture was made, beside it, in a real browser."""

import json
import re
import struct
import uuid
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
from browser.visiting import fragment, visit
from generation.carriers import chunk, iptc
from generation.comfy_graphs import with_loras
from running import IMAGES, Server

pytestmark = pytest.mark.slow

MARKUP = '<img src=x onerror="window.harm = 1"><script>window.harm = 1</script>\nsecond line'
SEED = 2**64 - 1


def saved(server: Server, texts: dict[str, str]) -> str:
    """A path of a new picture that has these texts in it."""
    path = f"{uuid.uuid4().hex}/a.png"
    png = scenery(5, edge=300, form="PNG")
    chunks = [chunk(b"tEXt", f"{name}\0{text}".encode()) for name, text in texts.items()]
    data = png[:33] + b"".join(chunks) + png[33:]
    with server.client() as client:
        answer = client.post(f"{IMAGES}/{quote(path)}", files={"file": data})
        assert answer.status_code == 200, answer.text
    return path


def test_a_picture_says_how_it_was_made_as_text_and_each_fact_can_be_copied(
    browser: Browser, server: Server
) -> None:
    graph = with_loras(MARKUP, "blurry", SEED)
    workflow = {"nodes": [], "links": [], "seed": 2**63 + 1}
    texts = {"prompt": json.dumps(graph), "workflow": json.dumps(workflow)}
    path = saved(server, {**texts, "XML:com.adobe.xmp": iptc()})
    with visit(browser, server, permissions=["clipboard-read", "clipboard-write"]) as visitor:
        visitor.sign_in(server.token(), fragment(path))
        visitor.expect_picture("a.png")
        expect(visitor.page.locator("#viewer-place")).to_have_text("1 of 1")  # said last
        visitor.page.keyboard.press("i")
        facts = visitor.page.locator("#facts")

        for expected in (
            MARKUP.split("\n", maxsplit=1)[0],
            "blurry",
            str(SEED),
            "sd_xl_base_1.0.safetensors",
            re.compile(r"ink.safetensors \(0.8\)\s+fog.safetensors \(0.5\)"),
            "dpmpp_2m",
            "ComfyUI",
            "property (IPTC)",
            "image/png",
        ):
            expect(facts).to_contain_text(expected)
        assert facts.locator("dt").all_inner_texts()[:3] == ["Prompt", "Negative prompt", "Seed"]
        with visitor.page.expect_download() as download:
            facts.get_by_role("button", name="Open workflow").click()
        assert download.value.suggested_filename == "a.png.json"
        assert json.loads(download.value.path().read_bytes()) == workflow
        apart = (
            "links => links[1].getBoundingClientRect().x - links[0].getBoundingClientRect().right"
        )
        assert facts.locator(".row a").evaluate_all(apart) >= 12
        for label, text in (("Prompt", MARKUP), ("Seed", str(SEED))):
            facts.get_by_role("button", name=f"Copy {label}", exact=True).click()
            expect(visitor.viewer.locator("#live")).to_contain_text(f"{label} copied")
            assert visitor.page.evaluate("navigator.clipboard.readText()") == text

        expect(facts.locator("pre")).to_have_count(0)
        facts.get_by_text("As the tool wrote it").click()
        expect(facts.locator("pre")).to_have_count(2)
        facts.get_by_role("button", name="Copy workflow").click()
        expect(visitor.viewer.locator("#live")).to_contain_text("workflow copied")
        copied = json.loads(visitor.page.evaluate("navigator.clipboard.readText()"))
        assert copied == workflow
        assert visitor.page.evaluate("window.harm") is None
        visitor.expect_accessible()


def test_a_picture_of_which_nothing_is_known_has_the_facts_of_its_file_alone(
    browser: Browser, server: Server
) -> None:
    path = saved(server, {"Comment": "at the beach"})
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment(path))
        visitor.expect_picture("a.png")
        visitor.page.keyboard.press("i")

        facts = visitor.page.locator("#facts")
        expect(facts).to_contain_text("SHA-256")
        assert facts.locator("dt").all_inner_texts()[:3] == ["Dimensions", "Size", "Type"]
        expect(facts).not_to_contain_text("Made by AI")
        expect(facts.locator("details")).to_have_count(0)


@pytest.mark.parametrize("is_as_asked", [True, False])
def test_the_size_that_was_asked_for_shows_only_where_the_picture_has_another(
    browser: Browser, server: Server, is_as_asked: bool
) -> None:
    png = scenery(5, edge=300, form="PNG")
    width, height = struct.unpack(">II", png[16:24])
    asked = width if is_as_asked else 2 * width
    path = saved(server, {"parameters": f"a fox\nSteps: 20, Seed: 7, Size: {asked}x{height}"})
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment(path))
        visitor.expect_picture("a.png")
        visitor.page.keyboard.press("i")

        facts = visitor.page.locator("#facts")
        expect(facts).to_contain_text("SHA-256")
        expect(facts.locator("dt", has_text="Dimensions")).to_have_count(1)
        expect(facts.locator("dt", has_text="Asked for")).to_have_count(0 if is_as_asked else 1)
