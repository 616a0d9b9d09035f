"""What the nodes add to ComfyUI's page, beside a double of what the page hands to extensions."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

from browser.visiting import LONGEST_MS

SCRIPT = Path(__file__).parents[2] / "integrations" / "comfyui" / "web" / "stillroom.js"
ORIGIN = "http://comfyui.example"
# scripts/app.js as ComfyUI serves it: extensions are registered, and asked about each node's type.
APP = """
export const app = { registerExtension: (extension) => { window.extension = extension; } };
"""
PAGE = """
<body><script type="module">
import "./extensions/stillroom/stillroom.js";
window.made = (name) => {
  const type = class {
    widgets = [];
    addDOMWidget(widget, kind, element, options) {
      this.widgets.push({ name: widget, options });
      document.body.append(element);
    }
    onExecuted(output) { this.shown = output.images; }
  };
  window.extension.beforeRegisterNodeDef(type, { name });
  return new type();
};
window.ready = true;
</script>
"""


@pytest.fixture
def page(browser: Browser) -> Page:
    opened = browser.new_page()
    opened.set_default_timeout(LONGEST_MS)
    files = {
        "/": (PAGE, "text/html"),
        "/scripts/app.js": (APP, "text/javascript"),
        "/extensions/stillroom/stillroom.js": (SCRIPT.read_text(), "text/javascript"),
    }

    def serve(route: Route) -> None:
        body, kind = files[route.request.url.removeprefix(ORIGIN)]
        route.fulfill(body=body, content_type=kind)

    opened.route(f"{ORIGIN}/**", serve)
    opened.goto(f"{ORIGIN}/")
    opened.wait_for_function("window.ready")
    return opened


def test_the_saving_node_shows_a_link_to_each_image_and_none_is_kept_in_the_workflow(
    page: Page,
) -> None:
    page.evaluate(
        """() => {
        window.node = window.made("StillroomSaveImage");
        window.node.onExecuted({ images: [1], stillroom: [{ path: "old.png", url: "" }] });
        window.node.onExecuted({ images: [2], stillroom: [
          { path: "a/<b>1.png", url: "https://images.example/a?signature=x" },
          { path: "2.png", url: "javascript:alert(1)" },
        ] });
        }"""
    )

    links = page.locator("a")
    assert links.all_inner_texts() == ["a/<b>1.png", "2.png"]
    assert links.nth(0).get_attribute("href") == "https://images.example/a?signature=x"
    assert links.nth(1).get_attribute("href") is None
    assert page.evaluate("window.node.shown") == [2]
    widgets = page.evaluate("window.node.widgets.map((one) => one.options.serialize)")
    assert widgets == [False]


def test_other_nodes_are_left_alone(page: Page) -> None:
    page.evaluate("window.made('SaveImage').onExecuted({ stillroom: [{ path: 'a', url: '' }] })")

    assert page.locator("a").count() == 0
