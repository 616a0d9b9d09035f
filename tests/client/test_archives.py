"""ZIP files of many images, by the SDK and on the command line."""

import io
import json
import zipfile
from pathlib import Path

import httpx
import pytest

from command_line import PNG, Run
from generation import carriers as at
from stillroom.client import AsyncImageStore, ImageStore
from stillroom.client.errors import UnexpectedAnswer
from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    InvalidParameter,
    InvalidPath,
    RunNotFound,
)

SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 7, Size: 512x512"


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return {name: found.read(name) for name in found.namelist()}


@pytest.mark.anyio
async def test_an_archive_is_a_file_or_goes_to_one(
    store: AsyncImageStore, folder: str, tmp_path: Path
) -> None:
    told = at.png({"parameters": f"a red fox\n{SETTINGS}"})
    for name, data in (("a.png", PNG), ("b.png", told)):
        await store.save(f"{folder}/{name}", data)

    with await store.archive(f"{folder}/") as file:
        whole = contents(file.read())
    await store.download_archive([f"{folder}/b.png"], tmp_path / "b.zip", sidecars="captions")
    with pytest.raises(ImageNotFound, match="none"):
        await store.download_archive([f"{folder}/none"], tmp_path / "none.zip")

    assert whole == {f"{folder}/a.png": PNG, f"{folder}/b.png": told}
    assert contents((tmp_path / "b.zip").read_bytes()) == {
        f"{folder}/b.png": told,
        f"{folder}/b.txt": b"a red fox",
    }
    assert [file.name for file in tmp_path.iterdir()] == ["b.zip"]


@pytest.mark.anyio
async def test_an_archive_is_of_a_folder_unless_a_prefix_is_asked_for(
    store: AsyncImageStore, folder: str
) -> None:
    for name in ("cats/a.png", "cats-private/b.png"):
        await store.save(f"{folder}/{name}", PNG)

    for images, expected in (
        (f"{folder}/cats", ["cats/a.png"]),
        (f"{folder}/cats/", ["cats/a.png"]),
        (f"{folder}/cats*", ["cats-private/b.png", "cats/a.png"]),
    ):
        paths = [f"{folder}/{name}" for name in expected]
        with await store.archive(images) as file:
            assert [*contents(file.read())] == paths
        async with httpx.AsyncClient() as anybody:
            answer = await anybody.get(await store.signed_url(archive=images))
        assert [*contents(answer.content)] == paths


@pytest.mark.anyio
async def test_a_link_to_an_archive_or_a_run_needs_no_token(
    store: AsyncImageStore, folder: str
) -> None:
    paths = [f"{folder}/{name}" for name in ("a b.png", "c.png", "d.png")]
    for path in paths:
        await store.save(path, PNG)
    await store.publish_run(folder)

    async with httpx.AsyncClient() as anybody:
        for url, expected in (
            (await store.signed_url(archive=f"{folder}/"), paths),
            (await store.signed_url(archive=iter(paths[:2]), expires_in=60), paths[:2]),
            (await store.signed_url(run=folder, expires_in="7d"), paths),
        ):
            assert [*contents((await anybody.get(url)).content)] == expected
    for error, refused in (
        (InvalidPath, store.signed_url(archive=["../a"])),
        (InvalidPath, store.signed_url(run=f"{folder}/")),
        (InvalidParameter, store.signed_url(archive=f"{folder}/", expires_in="8d")),
        (InvalidParameter, store.signed_url(archive=[])),
        (RunNotFound, store.signed_url(run=f"{folder}/none")),
        (TypeError, store.signed_url()),
        (TypeError, store.signed_url(paths[0], run=folder)),
        (TypeError, store.signed_url(archive=folder, run=folder)),
        (TypeError, store.signed_url(archive=folder, width=64)),
    ):
        with pytest.raises(error):
            await refused


def test_the_command_prints_a_link_to_an_archive_or_a_run(
    run: Run, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    for path in (f"{folder}/a.png", f"{folder}/in/b.png"):
        run("put", "a.png", path)
    run("put", "a.png", f"{folder}-private/a.png")

    whole = run("url", "--zip", f"{folder}/")
    same = run("url", "--zip", folder)
    pattern = run("url", "--zip", f"{folder}*/*.png")
    part = run("url", "--zip", f"{folder}/in", "--json", "--expires", "1d")
    unpublished = run("url", "--run", folder)
    run("runs", "publish", folder)
    published = run("url", "--run", f"{folder}/")

    both = {f"{folder}/a.png": PNG, f"{folder}/in/b.png": PNG}
    assert contents(httpx.get(whole.out.strip()).content) == both
    assert contents(httpx.get(published.out.strip()).content) == both
    assert contents(httpx.get(same.out.strip()).content) == both
    found = contents(httpx.get(pattern.out.strip()).content)
    assert [*found] == [f"{folder}-private/a.png", f"{folder}/a.png"]
    assert contents(httpx.get(json.loads(part.out)["url"]).content) == {f"{folder}/in/b.png": PNG}
    assert "the run is not published" in unpublished.err
    none = run("url", "--zip", f"{folder}/none")
    assert (none.code, none.out) == (3, "")
    assert run("url", "--zip", "--run", folder).code == 2


def test_an_archive_that_keeps_breaking_off_is_given_up(tmp_path: Path) -> None:
    class Breaks(httpx.SyncByteStream):
        def __iter__(self) -> "Breaks":
            return self

        def __next__(self) -> bytes:
            raise httpx.RemoteProtocolError("incomplete chunked read")

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Breaks())

    with (
        ImageStore("http://store", transport=httpx.MockTransport(answer)) as store,
        pytest.raises(BackendUnavailable, match="interrupted"),
    ):
        store.download_archive("a/", tmp_path / "a.zip")

    assert list(tmp_path.iterdir()) == []


def test_an_archive_without_its_end_is_noticed(tmp_path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"PK\x03\x04 and no more")

    with (
        ImageStore("http://store", transport=httpx.MockTransport(answer)) as store,
        pytest.raises(UnexpectedAnswer, match="archive is incomplete"),
    ):
        store.download_archive("a/", tmp_path / "a.zip")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("made")
def test_get_makes_a_zip_of_a_folder_or_of_what_is_chosen(
    run: Run, folder: str, made: Path
) -> None:
    run("put", "out", folder)

    whole = run("get", folder, "all.zip", "--zip")
    some = run("get", f"{folder}/*.png", "some.zip", "--zip", "--exclude", "b*")
    piped = run("get", f"{folder}/a.png", "-", "--zip")
    none = run("get", f"{folder}/none/", "none.zip", "--zip")
    planned = run("get", folder, "all.zip", "--zip", "--dry-run")
    forgotten = run("get", folder, "all.zip")

    assert (whole.code, some.code, piped.code, none.code) == (0, 0, 0, 3)
    assert (planned.code, planned.out.count("would download")) == (0, 4)
    assert (forgotten.code, "add --zip" in forgotten.err) == (2, True)
    assert len(contents((made / "all.zip").read_bytes())) == 4
    assert whole.out == "downloaded all.zip\n"
    assert list(contents((made / "some.zip").read_bytes())) == [f"{folder}/a.png"]
    data = piped.out.encode(errors="surrogateescape")
    assert contents(data) == {f"{folder}/a.png": PNG + b"out/a.png"}
    assert not (made / "none.zip").exists()
