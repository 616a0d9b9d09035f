"""The recipe of docs/recipes.md in Gradio itself, asked as its page asks."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from acceptance.pasting import DEFAULT_URL, ODD, PLAIN, ROOT, blocks, started, wait_for_answer
from running import free_port, running
from stillroom.client import ImageStore
from waiting import until

PYTHON = ROOT / ".make/recipes/bin/python"
WORDS = "snow"


def found(page: str, words: str) -> list[Any]:
    """What the page's search answers: images with their captions."""
    asked = httpx.post(f"{page}/gradio_api/call/find", json={"data": [words]}, timeout=60)
    url = f"{page}/gradio_api/call/find/{asked.json()['event_id']}"
    events = httpx.get(url, timeout=60).text
    assert events.startswith("event: complete\n"), events
    return list(json.loads(events.partition("data: ")[2])[0])


def test_the_gradio_recipe_shows_images_of_any_kind_by_words_and_copies_none(
    tmp_path: Path,
) -> None:
    assert PYTHON.exists(), "Gradio is not here: make clients"
    recipe = blocks("docs/recipes.md", "python")[2]
    assert 'prefix="generations/"' in recipe
    copies, port = tmp_path / "copies", free_port()
    environment = {
        "PYTHONPATH": str(ROOT / "src"),
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(copies),
        "GRADIO_ANALYTICS_ENABLED": "False",  # it asks hosts that cannot be reached
        "HF_HUB_OFFLINE": "1",
    }
    with running(tmp_path) as server, ImageStore(server.url, server.token()) as store:
        for path, prompt in (("generations/1.png", "a fox in the snow"), ("2.png", "snow")):
            store.save(path, Image.new("RGB", (8, 8), "teal"), generation={"prompt": prompt})
        store.save("generations/2.png", Image.new("RGB", (8, 8)), generation={"seed": 7})
        store.save_many(ODD)
        until(lambda: len(list(store.search())) == 3 + len(ODD))
        script = f"token = {server.token()!r}\n{recipe}".replace(DEFAULT_URL, server.url)
        (tmp_path / "page.py").write_text(script)
        page, log = f"http://127.0.0.1:{port}", tmp_path / "page.log"

        with started(shlex.join([str(PYTHON), "page.py"]), tmp_path, log, **environment):
            wait_for_answer(page, log)
            (one,) = found(page, WORDS)
            assert found(page, "fox sea") == []
            newest = {one["caption"]: one["image"]["url"] for one in found(page, "")}

        assert one["caption"] == "a fox in the snow"
        others = ["generations/0/cut off.jpg", PLAIN, "generations/2.png"]
        assert sorted(newest) == ["a fox in the snow", *others]  # no video, no text
        assert httpx.get(newest[PLAIN]).content == ODD[PLAIN]
        assert httpx.get(one["image"]["url"]).content == store.read("generations/1.png")
    assert not any(name for _, _, names in os.walk(copies) for name in names)
