"""The recipes of docs/coming-from.md bring images into the store, and out of it."""

import json
from pathlib import Path

import pytest

from acceptance.pasting import DEFAULT_URL, blocks, paste
from generation.corpus import a1111, comfyui
from pictures import picture
from running import Server, running
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.client import ImageStore
from waiting import until

pytestmark = pytest.mark.whole  # commands and rclone, started as users do

FOLDER, DISK, COMFYUI, A1111, FROM_BUCKET, LEAVING = blocks("docs/coming-from.md", "sh")
PICTURES = {"cat.png": picture(1), "a/b/Füchse #1.png": picture(2), "a/dog.jpg": picture(3, "JPEG")}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def run(commands: str, server: Server, folder: Path) -> str:
    """Paste a recipe with the settings that the page asks for."""
    settings = (
        f"export STILLROOM_URL={DEFAULT_URL} STILLROOM_TOKEN={server.token()}\n"
        f'export STILLROOM_DATA_DIR="{server.data}"\nPATH="$PWD/.venv/bin:$PATH"\n'
    )
    return paste(settings + commands, server, folder)


def stored(server: Server) -> dict[str, bytes]:
    with ImageStore(server.url, server.token()) as store:
        return {path: store.read(path) for path in store.iter()}


def test_a_folder_of_images_is_uploaded_and_compared(tmp_path: Path) -> None:
    write(tmp_path / "pictures", {**PICTURES, "notes.txt": b"not an image"})
    with running(tmp_path) as server:
        printed = run(FOLDER, server, tmp_path)
        assert stored(server) == {f"imported/{name}": data for name, data in PICTURES.items()}
    assert "would upload imported/cat.png" in printed
    compared = [line.split()[0] for line in printed.splitlines()[-3:]]
    assert compared == ["unchanged"] * 3


def test_files_copied_into_the_data_directory_are_images_with_hashes(tmp_path: Path) -> None:
    write(tmp_path / "pictures", PICTURES)
    with running(tmp_path) as server:
        printed = run(DISK, server, tmp_path)
        assert stored(server) == {f"imported/{name}": data for name, data in PICTURES.items()}
        with ImageStore(server.url, server.token()) as store:
            found = {entry.path: entry for entry in store.entries()}
            assert len(list(store.search())) == len(PICTURES)
    assert "hash of 3 images recorded" in printed
    for name in PICTURES:
        entry = found[f"imported/{name}"]
        assert entry.sha256
        file_s = (tmp_path / "pictures" / name).stat().st_mtime
        assert entry.modified.timestamp() == pytest.approx(file_s, abs=0.001)


@pytest.mark.parametrize("tool", ["ComfyUI", "A1111"])
def test_images_of_a_tool_are_found_by_their_prompts(tmp_path: Path, tool: str) -> None:
    recipe, folder, samples = {
        "ComfyUI": (COMFYUI, "ComfyUI/output", comfyui()),
        "A1111": (A1111, "stable-diffusion-webui/outputs/txt2img-images", a1111()),
    }[tool]
    sample = next(sample for sample in samples if sample.facts["tool"] == tool)
    write(tmp_path / folder, {"00001-7.png": sample.data, "00001-7.txt": b"a red fox"})
    command, search = recipe.strip().splitlines()
    with running(tmp_path) as server:
        run(command, server, tmp_path)
        until(lambda: "00001-7.png" in run(search, server, tmp_path))
        (path,) = stored(server)
        with ImageStore(server.url, server.token()) as store:
            facts = store.metadata(path).generation
    assert facts is not None
    assert facts.prompt == sample.facts["prompt"]


def test_objects_of_another_bucket_are_copied_under_new_keys(
    seaweed: SeaweedFS, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.make_bucket("old")
    for name, data in PICTURES.items():
        operator.send("PUT", f"/old/x/{name}", body=data).raise_for_status()
    for name, value in bucket_variables(seaweed).items():
        monkeypatch.setenv(name, value)
    with running(tmp_path) as server:
        run(f"OLD=old\n{FROM_BUCKET}", server, tmp_path)
        assert stored(server) == {f"imported/x/{name}": data for name, data in PICTURES.items()}
        with ImageStore(server.url, server.token()) as store:
            assert len(list(store.search())) == len(PICTURES)
    seaweed.empty()


def test_everything_can_be_taken_along(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with ImageStore(server.url, server.token()) as store:
            store.save_many(PICTURES)
            kept = store.media.ingest("a/b/Füchse #1.png", relocate=False)
            store.media.update(kept.id, caption="foxes")
            store.media.tags(kept.id, add=["best"])
        run(LEAVING, server, tmp_path)
    for folder in ("taken-along", "fetched"):
        root = tmp_path / folder
        files = {
            str(file.relative_to(root)): file.read_bytes()
            for file in root.rglob("*")
            if file.is_file()
        }
        assert files == PICTURES
    (row,) = map(json.loads, (tmp_path / "library.jsonl").read_text().splitlines())
    assert row["id"] == str(kept.id)
    assert row["source_key"] == "compute/a/b/Füchse #1.png"
    assert (row["caption"], row["tags"]) == ("foxes", ["best"])
    assert len(row["content_hash"]) == 64
