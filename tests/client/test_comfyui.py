"""ComfyUI's nodes, loaded and called as ComfyUI does it, with arrays for tensors."""

import importlib.util
import io
import json
import sys
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from running import Server, free_port
from stillroom.client import ImageStore

NODES = Path(__file__).parents[2] / "integrations" / "comfyui"
PROMPT: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "fox.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 1]}},
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 42, "steps": 20, "model": ["1", 0], "positive": ["2", 0]},
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["1", 2]}},
    "9": {"class_type": "StillroomSaveImage", "inputs": {"images": ["8", 0]}},
}
WORKFLOW: dict[str, Any] = {
    "workflow": {"nodes": [{"id": 9, "type": "StillroomSaveImage"}], "version": 0.4}
}


class Tensor(np.ndarray[Any, np.dtype[np.float32]]):
    """An array with what the nodes use of a tensor."""

    def cpu(self) -> "Tensor":
        return self

    def numpy(self) -> np.ndarray[Any, Any]:
        return self.view(np.ndarray)


def tensors(*shape: int) -> Tensor:
    ramp = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return ramp.view(Tensor)


class ComfyUI:
    """What of ComfyUI a custom node meets: its loader, its folders, and how it calls a node.

    Sources: Comfy-Org/ComfyUI, nodes.py (load_custom_node), execution.py (get_input_data and
    _async_map_node_over_list) and folder_paths.py.
    """

    def __init__(self, folder: Path) -> None:
        self.output, self.temp = folder / "output", folder / "temp"
        name = str(NODES).replace(".", "_x_")
        spec = importlib.util.spec_from_file_location(name, NODES / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        self.stores: list[ImageStore] = []
        sys.modules[f"{name}.connection"].ImageStore = self._opened  # type: ignore[attr-defined]  # loaded by its path
        self.classes: dict[str, Any] = module.NODE_CLASS_MAPPINGS
        assert module.NODE_DISPLAY_NAME_MAPPINGS.keys() == self.classes.keys()

    def _opened(self, *given: Any, **named: Any) -> ImageStore:
        self.stores.append(ImageStore(*given, **named))
        return self.stores[-1]

    def inputs(self, kind: str, given: dict[str, Any], prompt: object) -> dict[str, Any]:
        types_ = self.classes[kind].INPUT_TYPES()
        inputs = {
            name: given.get(name, (spec[1] if len(spec) > 1 else {}).get("default"))
            for name, spec in types_["required"].items()
        }
        hidden = {"PROMPT": prompt, "EXTRA_PNGINFO": WORKFLOW, "UNIQUE_ID": "9"}
        inputs |= {name: hidden[what] for name, what in types_.get("hidden", {}).items()}
        if getattr(self.classes[kind], "INPUT_IS_LIST", False):
            return {
                name: value if isinstance(value, list) else [value]
                for name, value in inputs.items()
            }
        return inputs

    def validate(self, kind: str, **given: object) -> bool | str:
        said: bool | str = self.classes[kind].VALIDATE_INPUTS(**given)
        return said

    def run(self, kind: str, *, prompt: object = PROMPT, **given: object) -> Any:
        node = self.classes[kind]()
        return getattr(node, node.FUNCTION)(**self.inputs(kind, given, prompt))


@pytest.fixture
def comfyui(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ComfyUI]:
    monkeypatch.setenv("STILLROOM_URL", server.url)
    monkeypatch.setenv("STILLROOM_TOKEN", server.token())
    torch = types.ModuleType("torch")
    monkeypatch.setattr(torch, "Tensor", Tensor, raising=False)
    monkeypatch.setattr(torch, "from_numpy", lambda array: array.view(Tensor), raising=False)
    folders = types.ModuleType("folder_paths")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    before = set(sys.modules)
    started = ComfyUI(tmp_path)
    monkeypatch.setattr(folders, "get_output_directory", lambda: str(started.output), raising=False)
    monkeypatch.setattr(folders, "get_temp_directory", lambda: str(started.temp), raising=False)
    yield started
    for store in started.stores:
        store.close()
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def images(server: Server) -> Iterator[ImageStore]:
    with ImageStore(server.url, server.token()) as opened:
        yield opened


def test_a_batch_is_saved_as_one_published_run_with_the_graph_in_each_file(
    comfyui: ComfyUI, images: ImageStore, folder: str
) -> None:
    answer = comfyui.run(
        "StillroomSaveImage",
        images=[tensors(2, 8, 6, 3), tensors(1, 4, 4, 3)],
        filename_prefix=f"{folder}/%seed%",
    )

    paths, urls = answer["result"]
    assert paths == [f"{folder}/42_00001/42_00001_{number}.png" for number in (1, 2, 3)]
    run = images.run(f"{folder}/42_00001").read()
    assert run.published_at is not None
    assert [image.path for image in run.images] == paths
    assert [one["sha256"] for one in answer["ui"]["stillroom"]] == [
        image.sha256 for image in run.images
    ]
    with Image.open(io.BytesIO(images.read(paths[0]))) as saved:
        assert json.loads(saved.info["prompt"]) == PROMPT
        assert json.loads(saved.info["workflow"]) == WORKFLOW["workflow"]
        own = (255.0 * tensors(2, 8, 6, 3)[0].numpy()).astype(np.uint8)  # as ComfyUI's SaveImage
        assert np.array_equal(np.asarray(saved), own)
    facts = images.metadata(paths[0])
    assert facts.ai_mark == "iptc"
    assert facts.generation is not None
    assert (facts.generation.tool, facts.generation.seed) == ("ComfyUI", 42)
    assert [one["url"] for one in answer["ui"]["stillroom"]] == urls
    assert httpx.get(urls[2]).content == images.read(paths[2])
    for shown, path in zip(answer["ui"]["images"], paths, strict=True):
        assert shown["type"] == "temp"
        copy = comfyui.temp / shown["subfolder"] / shown["filename"]
        assert copy.read_bytes() == images.read(path)


def test_each_prompt_gets_the_next_number(comfyui: ComfyUI, folder: str) -> None:
    given: dict[str, Any] = {"images": [tensors(1, 4, 4, 3)], "filename_prefix": f"{folder}/a"}

    saved = [comfyui.run("StillroomSaveImage", **given)["result"][0] for _ in range(3)]
    other = comfyui.run("StillroomSaveImage", **given | {"filename_prefix": f"{folder}/a_b"})

    assert saved == [[f"{folder}/a_{number:05}/a_{number:05}_1.png"] for number in (1, 2, 3)]
    assert other["result"][0] == [f"{folder}/a_b_00001/a_b_00001_1.png"]


def test_several_that_save_below_one_prefix_at_once_get_a_run_each(
    comfyui: ComfyUI, images: ImageStore, folder: str
) -> None:
    def save(_: int) -> str:
        answer = comfyui.run(
            "StillroomSaveImage", images=[tensors(3, 4, 4, 3)], filename_prefix=f"{folder}/a"
        )
        return str(answer["result"][0][0]).rpartition("/")[0]

    with ThreadPoolExecutor(6) as together:
        folders = set(together.map(save, range(6)))

    assert len(folders) == 6
    runs = {(run.folder, run.state, run.count) for run in images.runs(f"{folder}/")}
    assert runs == {(one, "published", 3) for one in folders}


def test_nothing_is_saved_of_no_images(comfyui: ComfyUI, images: ImageStore, folder: str) -> None:
    answer = comfyui.run("StillroomSaveImage", images=[], filename_prefix=f"{folder}/a")

    assert answer["result"] == ([], [])
    assert list(images.iter(f"{folder}/")) == []


def test_what_a_format_cannot_take_is_kept_as_png(comfyui: ComfyUI, folder: str) -> None:
    with pytest.raises(RuntimeError, match=r"16383.*they are kept in .*/stillroom_00001$"):
        comfyui.run(
            "StillroomSaveImage",
            images=[tensors(1, 1, 17_000, 3)],
            filename_prefix=f"{folder}/a",
            format="webp",
        )

    (kept,) = comfyui.output.rglob("*.*")
    with Image.open(kept) as image:
        assert (image.format, image.width) == ("PNG", 17_000)


@pytest.mark.parametrize(
    ("chosen", "kind"), [("webp", "WEBP"), ("webp-lossless", "WEBP"), ("jpeg", "JPEG")]
)
def test_other_formats_have_the_graph_and_the_mark_too(
    comfyui: ComfyUI, images: ImageStore, folder: str, chosen: str, kind: str
) -> None:
    answer = comfyui.run(
        "StillroomSaveImage",
        images=[tensors(1, 8, 6, 3)],
        filename_prefix=f"{folder}/x",
        format=chosen,
        quality=80,
    )

    (path,) = answer["result"][0]
    with Image.open(io.BytesIO(images.read(path))) as saved:
        assert saved.format == kind
        assert saved.getexif()[0x0110] == f"prompt:{json.dumps(PROMPT)}"
        assert saved.getexif()[0x010F] == f"workflow:{json.dumps(WORKFLOW['workflow'])}"
    facts = images.metadata(path)
    assert facts.ai_mark == "iptc"
    assert facts.generation is not None
    assert facts.generation.seed == 42


def test_a_workflow_too_long_for_jpeg_is_left_out_and_the_prompt_stays(
    comfyui: ComfyUI, images: ImageStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORKFLOW, "workflow", {"nodes": [], "notes": "x" * 70_000})

    answer = comfyui.run(
        "StillroomSaveImage",
        images=[tensors(1, 8, 6, 3)],
        filename_prefix=f"{folder}/x",
        format="jpeg",
    )

    with Image.open(io.BytesIO(images.read(answer["result"][0][0]))) as saved:
        assert dict(saved.getexif()) == {0x0110: f"prompt:{json.dumps(PROMPT)}"}


def test_without_the_mark_and_without_metadata_there_is_neither(
    comfyui: ComfyUI, images: ImageStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = types.ModuleType("comfy.cli_args")
    monkeypatch.setattr(
        options, "args", types.SimpleNamespace(disable_metadata=True), raising=False
    )
    monkeypatch.setitem(sys.modules, "comfy.cli_args", options)

    answer = comfyui.run(
        "StillroomSaveImage",
        images=[tensors(1, 8, 6, 1)],
        filename_prefix=f"{folder}/x",
        ai_generated=False,
    )

    (path,) = answer["result"][0]
    assert images.metadata(path).ai_mark == "none"
    with Image.open(io.BytesIO(images.read(path))) as saved:
        assert saved.mode == "L"
        assert not saved.info


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("a/../b", "'a/../b': "),
        ("%sede%/x", "'%sede%/x': %sede% in the prefix is unknown: there are %date%, "),
        ("", "'': "),
    ],
)
def test_a_prefix_that_is_no_path_is_refused_before_anything_is_computed(
    comfyui: ComfyUI, prefix: str, said: str
) -> None:
    assert str(comfyui.validate("StillroomSaveImage", filename_prefix=[prefix])).startswith(said)
    assert comfyui.validate("StillroomSaveImage", filename_prefix=["%date:yy-MM%/%width%"]) is True
    assert comfyui.validate("StillroomSaveImage", filename_prefix=[None]) is True


def test_a_missing_configuration_is_refused_before_anything_is_computed(
    comfyui: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STILLROOM_TOKEN")

    for said in (
        comfyui.validate("StillroomSaveImage", filename_prefix=["x"]),
        comfyui.validate("StillroomLoadImage", image="x.png"),
    ):
        assert str(said).startswith("set STILLROOM_URL and STILLROOM_TOKEN")


def test_without_a_server_the_images_are_kept_in_the_output_folder(
    comfyui: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_URL", f"http://127.0.0.1:{free_port()}")
    given = {"images": [tensors(2, 4, 4, 3)], "filename_prefix": "day/%seed%"}
    began = time.monotonic()

    for number in (1, 2):
        with pytest.raises(RuntimeError, match=f"; they are kept in .*/day/42_0000{number}$"):
            comfyui.run("StillroomSaveImage", **given)

    assert time.monotonic() - began < 60  # seconds for each, not the SDK's usual two minutes
    kept = sorted(comfyui.output.rglob("*.png"))
    assert [str(file.relative_to(comfyui.output)) for file in kept] == [
        f"day/42_0000{number}/42_{image}.png" for number in (1, 2) for image in (1, 2)
    ]
    with Image.open(kept[0]) as image:
        assert json.loads(image.info["prompt"]) == PROMPT


def test_a_prefix_known_only_at_the_end_that_is_no_path_loses_no_image(comfyui: ComfyUI) -> None:
    with pytest.raises(RuntimeError, match=r"they are kept in .*/stillroom_00001$"):
        comfyui.run(
            "StillroomSaveImage", images=[tensors(1, 4, 4, 3)], filename_prefix="../../outside"
        )

    assert [file.name for file in comfyui.output.rglob("*.png")] == ["stillroom_1.png"]


def test_an_image_is_loaded_by_path_and_its_hash_says_whether_it_has_changed(
    comfyui: ComfyUI, images: ImageStore, folder: str
) -> None:
    load = comfyui.classes["StillroomLoadImage"]
    path = f"{folder}/cat.png"
    picture = Image.new("RGBA", (3, 2), (255, 0, 51, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    saved = images.save(path, picture)

    image, mask = comfyui.run("StillroomLoadImage", image=path)

    assert image.shape == (1, 2, 3, 3)
    assert np.allclose(image[0, 1, 1], (1, 0, 0.2))
    assert mask.tolist() == [[[1, 0, 0], [0, 0, 0]]]
    assert load.IS_CHANGED(path) == load.IS_CHANGED(path) == saved.sha256
    assert images.save(path, Image.new("RGB", (3, 2))).sha256 == load.IS_CHANGED(path)
    assert load.IS_CHANGED(path) != saved.sha256


@pytest.mark.parametrize("relocate", [True, False])
def test_an_image_of_the_library_is_loaded_by_its_id_and_by_its_hash(
    comfyui: ComfyUI, images: ImageStore, folder: str, *, relocate: bool
) -> None:
    colour = (len(folder), int(folder[:2], 16), int(folder[2:4], 16))
    images.save(f"{folder}/cat.png", Image.new("RGB", (3, 2), colour))
    resource = images.ingest(f"{folder}/cat.png", relocate=relocate)
    load = comfyui.classes["StillroomLoadImage"]

    for name in (resource.id, resource.content_hash, resource.content_hash.upper()):
        image, mask = comfyui.run("StillroomLoadImage", image=name)
        assert np.allclose(image[0, 0, 0] * 255, colour)
        assert mask.shape == (1, 64, 64)
        assert load.IS_CHANGED(name) == resource.content_hash


def test_an_image_that_was_replaced_where_it_was_recorded_is_not_loaded_as_the_old_one(
    comfyui: ComfyUI, images: ImageStore, folder: str
) -> None:
    images.save(f"{folder}/cat.png", Image.new("RGB", (3, 2), f"#{folder[:6]}"))
    resource = images.ingest(f"{folder}/cat.png", relocate=False)
    images.save(f"{folder}/cat.png", Image.new("RGB", (5, 4), "white"))

    for name in (resource.id, resource.content_hash):
        with pytest.raises(RuntimeError, match="others than those that were ingested"):
            comfyui.run("StillroomLoadImage", image=name)


@pytest.mark.parametrize("name", ["none.png", "0" * 64, "00000000-0000-4000-8000-000000000000"])
def test_what_is_not_there_is_said_in_a_sentence(comfyui: ComfyUI, name: str) -> None:
    with pytest.raises(RuntimeError, match=r"(?i)no (such )?(resource|image)"):
        comfyui.run("StillroomLoadImage", image=name)


def test_frames_of_an_animation_are_a_batch(
    comfyui: ComfyUI, images: ImageStore, folder: str
) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    images.save(f"{folder}/moving.webp", file.getvalue())

    image, _ = comfyui.run("StillroomLoadImage", image=f"{folder}/moving.webp")

    assert image[:, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
