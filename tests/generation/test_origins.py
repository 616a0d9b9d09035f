"""Origins in the files of tools: images that ComfyUI loads, and those that InvokeAI has used."""

import json
from typing import Any

import pytest

from generation.comfy_graphs import basic, control_net, node
from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import generation_of
from stillroom.generation.origins import meanings, origins_of
from stillroom.generation.reading import interpret

SHA256 = "5F8F04F6A3A892AAABBDDB6CF273894493773960D4A325B105FEE46EEF4304F1"


def told(**objects: object) -> tuple[str, ...] | None:
    texts = {name: json.dumps(content) for name, content in objects.items()}
    found = interpret(texts, WorkBudget()).generation
    assert found is not None
    return found.derived_from


@pytest.mark.parametrize(
    ("value", "origin"),
    [
        ("fox.png", "fox.png"),
        ("in/fox.png [input]", "in/fox.png"),
        ("clipspace/mask-1.png [temp]", "clipspace/mask-1.png"),
        ("fox.png[output]", "fox.png"),
        ("fox [2].png [output]", "fox [2].png"),
        ("in\\fox.png", "in/fox.png"),
        ("Cafe\u0301.png", "Caf\u00e9.png"),
        (SHA256, SHA256.lower()),
        ("..fox..png", "..fox..png"),
        *((bad, None) for bad in (
            "/etc/passwd", "../fox.png", "in/../fox.png", "in\\..\\fox.png", "./fox.png", "..",
            "C:\\fox.png", "c:fox.png", "https://example.org/fox.png", "data:image/png;base64,AA==",
            "in//fox.png", "//host/fox.png", "\\\\host\\fox.png", "~/fox.png", "", " [input]",
            "a/" * 600, 7, None, ["fox.png"], "/\n..",
        )),
    ],
)  # fmt: skip
def test_names_that_can_be_paths_are_origins(value: object, origin: str | None) -> None:
    assert origins_of([value]) == (None if origin is None else (origin,))


def test_at_most_100_origins_are_read() -> None:
    assert len(origins_of(f"{number}.png" for number in range(1000)) or ()) == 100
    found = generation_of({"derived_from": ["a.png", "x" * 2000, *map(str, range(1000))]})
    assert (found.derived_from or ())[:2] == ("a.png", "0")
    assert len(found.derived_from or ()) == 99


def test_a_name_is_relative_to_the_root_and_to_the_folder_of_the_image() -> None:
    assert meanings("fox.png", "a/b/c.png") == ("fox.png", "a/b/fox.png")
    assert meanings("fox.png", "c.png") == ("fox.png",)
    assert meanings(SHA256, "a/c.png") == (SHA256.lower(),)


@pytest.mark.parametrize("kind", ["LoadImage", "LoadImageOutput", "StillroomLoadImage"])
def test_the_images_that_a_graph_loads_are_origins(kind: str) -> None:
    graph = control_net("a fox", "", 7)
    graph["42"] = node(kind, image="pose.png")
    graph["50"] = node(kind, image="fox.png [input]", upload="image")
    graph["51"] = node("LoadImageMask", image="clipspace/mask.png [input]", channel="alpha")
    graph["52"] = node("VAEEncodeForInpaint", pixels=["50", 0], mask=["51", 0], vae=["4", 2])
    graph["3"]["inputs"]["latent_image"] = ["52", 0]
    graph["60"] = node(kind, image="unused.png")
    graph["61"] = node("PreviewImage", images=["60", 0])

    assert told(prompt=graph) == ("clipspace/mask.png", "fox.png", "pose.png")


def test_images_that_are_not_the_same_for_all_saved_ones_are_unknown() -> None:
    graph = basic("a fox", "", 7)
    graph["20"] = node("LoadImage", image="fox.png")
    graph["21"] = node("SaveImage", filename_prefix="b", images=["20", 0])

    assert told(prompt=graph) is None
    graph["8"]["inputs"]["mask"] = ["20", 0]
    assert told(prompt=graph) == ("fox.png",)


def test_a_graph_with_cycles_and_long_names_has_no_origins() -> None:
    graph: dict[str, Any] = basic("a fox", "", 7)
    graph["20"] = node("LoadImage", image=["20", 0], mask=["21", 0])
    graph["21"] = node("LoadImage", image="x" * 100_000, mask=["20", 0])
    graph["3"]["inputs"]["latent_image"] = ["20", 0]

    assert told(prompt=graph) is None


def test_the_input_images_of_invokeai_are_origins() -> None:
    metadata = {
        "positive_prompt": "a fox",
        "init_image": "init.png",
        "controlnets": [
            {"image": {"image_name": "pose.png"}, "processed_image": {"image_name": "bones.png"}}
        ],
        "canvas_v2_metadata": {
            "rasterLayers": [
                {"isEnabled": True, "objects": [{"image": {"image_name": "layer.png"}}]},
                {"isEnabled": False, "objects": [{"image": {"image_name": "off.png"}}]},
            ]
        },
        "ipAdapters": [{"image": {"image_name": "../../secret.png"}}],
    }

    assert told(invokeai_metadata=metadata) == ("bones.png", "init.png", "layer.png", "pose.png")
    assert told(invokeai_metadata={"positive_prompt": "a fox", "init_image": 7}) is None
