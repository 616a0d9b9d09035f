"""The media library in both SDKs and on the command line: from afar, and where it lies."""

import json
import re
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from client.conftest import Awaited
from command_line import ran
from pictures import picture
from running import Server
from stillroom.client import AsyncImageStore, HealingProgress, ImageStore, MediaResource
from stillroom.client.async_library import AsyncMediaLibrary
from stillroom.errors import InvalidParameter, InvalidPath, ResourceNotFound, ResourceProtected
from waiting import eventually, until


@pytest.fixture(params=["sync", "async"])
async def media(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[AsyncMediaLibrary]:
    if request.param == "async":
        async with AsyncImageStore(server.url, server.token()) as store:
            yield store.media
    else:
        with ImageStore(server.url, server.token()) as waiting:
            yield cast("AsyncMediaLibrary", Awaited(waiting.media))


def ingested(server: Server, path: str, **facts: Any) -> MediaResource:
    with ImageStore(server.url, server.token()) as store:
        store.save(path, picture(uuid.uuid4().int), **facts)
        return store.ingest(path)


async def test_a_resource_is_read_changed_and_deleted(
    media: AsyncMediaLibrary, server: Server, folder: str
) -> None:
    made = ingested(server, f"{folder}/a.png")

    found = await media.get(made.id)
    assert (found.id, found.url, found.tags) == (made.id, made.url, ())
    assert str(found.url).endswith(f"/media-resources/{made.id}/file")
    changed = await media.update(made.id, caption="first", duration=1.5, dominant_color="#ABCDEF")
    assert (changed.caption, changed.duration) == ("first", 1.5)
    filled = await media.update(made.id, only_unset=True, caption="second", alt_text="first")
    assert (filled.caption, filled.alt_text) == ("first", "first")
    assert (await media.update(made.id, caption=None, protected=True)).caption is None
    with pytest.raises(ResourceProtected):
        await media.delete(made.id)
    await media.update(made.id, protected=False)
    await media.delete(uuid.UUID(made.id))
    for call in (media.get, media.delete, media.tags, media.update):
        with pytest.raises(ResourceNotFound):
            await call(made.id)
    with pytest.raises(InvalidParameter):
        await media.get("x")


async def test_a_resource_is_erased_also_after_its_deletion(
    media: AsyncMediaLibrary, server: Server, folder: str
) -> None:
    made = ingested(server, f"{folder}/a.png")
    file = server.data / made.storage_key
    await media.delete(made.id)
    assert file.exists()

    await media.delete(made.id, now=True)

    assert not file.exists()
    with pytest.raises(ResourceNotFound):
        await media.delete(made.id, now=True)


async def test_an_image_is_ingested_by_the_library(
    media: AsyncMediaLibrary, server: Server, folder: str
) -> None:
    with ImageStore(server.url, server.token()) as store:
        store.save(f"{folder}/a.png", picture(uuid.uuid4().int))

    recorded = await media.ingest(f"{folder}/a.png", relocate=False)
    again = await media.ingest(f"{folder}/a.png")

    assert recorded.storage_key == f"compute/{folder}/a.png"
    assert again.id == recorded.id


async def test_tags_are_changed_and_filtered_by(
    media: AsyncMediaLibrary, server: Server, folder: str
) -> None:
    made = [ingested(server, f"{folder}/{number}.png") for number in range(3)]
    for number, one in enumerate(made):
        await media.tags(one.id, add=[folder, f"n {number}"])

    assert await media.tags(made[0].id, add=["ä&b"], remove=["n 0"]) == sorted([folder, "ä&b"])
    assert await media.tags(made[0].id) == list((await media.get(made[0].id)).tags)
    assert await media.tags(made[2].id, replace=["x"], add=["y"]) == ["x", "y"]

    async def listed(**filters: Any) -> list[str]:
        return [one.id async for one in media.list(**filters)]

    assert await listed(tag=folder) == [made[1].id, made[0].id]
    assert await listed(tag=[folder, "-ä&b"], resource_type="image") == [made[1].id]
    assert await listed(tag=folder, created_from=made[1].created_at) == [made[1].id]
    assert await listed(content_hash=made[2].content_hash) == [made[2].id]
    keys = [f"compute/{folder}/{number}.png" for number in (0, 2)]
    assert await listed(source_key=keys) == [made[2].id, made[0].id]
    assert await listed(source_key=keys[0]) == [made[0].id]
    assert await listed(source_prefix=f"compute/{folder}/1") == [made[1].id]
    with pytest.raises(TypeError, match="argument 'tags': did you mean 'tag'"):
        await listed(tags=folder)


async def test_words_are_the_first_argument_as_in_a_search(
    media: AsyncMediaLibrary, server: Server, folder: str
) -> None:
    made = ingested(server, f"{folder}/a.png", generation={"prompt": "a humpback whale"})
    await media.tags(made.id, add=[folder])

    async def listed(*words: str, **filters: Any) -> list[str]:
        return [one.id async for one in media.list(*words, tag=folder, **filters)]

    await eventually(lambda: listed("whale"))  # so the server has written all rows
    assert await listed("whale") == await listed(q="whale") == await listed() == [made.id]
    assert await listed("fox") == []


@pytest.mark.parametrize("key", ["a.png", "compute/", "compute//a.png"])
async def test_an_invalid_key_of_a_source_is_reported_with_the_name_of_the_parameter(
    media: AsyncMediaLibrary, key: str
) -> None:
    with pytest.raises(InvalidPath, match=r"^listing: source_key: "):
        _ = [resource async for resource in media.list(source_key=key)]


async def test_healing_is_waited_for_if_its_progress_is_to_be_seen(
    media: AsyncMediaLibrary, server: Server, folder: str
) -> None:
    made, seen = ingested(server, f"{folder}/a.png"), list[HealingProgress]()
    await media.update(made.id, dominant_color=None)

    assert await media.heal([made.id], progress=seen.append) in (0, 1)

    assert seen[-1].waiting == 0
    assert ((await media.get(made.id)).dominant_color or "").startswith("#")
    assert await media.heal([made.id]) == 0


@pytest.fixture(params=["from afar", "where it lies"])
def run(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Callable[..., str]:
    """Runs `stillroom media ...`, which must end with `code`, and gives what it wrote."""
    variables = {"STILLROOM_DATA_DIR": str(server.data)}
    if request.param == "from afar":
        variables = {"STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()}

    def run(*words: str, code: int = 0) -> str:
        done = ran(tmp_path, ("media", *words), variables)
        assert done.code == code, done.err
        return done.out

    return run


def test_the_library_on_the_command_line(
    run: Callable[..., str], server: Server, folder: str
) -> None:
    one, other = (ingested(server, f"{folder}/{name}.png") for name in "ab")

    assert run("tag", one.id, folder, "b a").split("\n") == [*sorted([folder, "b a"]), ""]
    assert run("tag", other.id, folder) == run("tag", other.id) == f"{folder}\n"
    assert run("tag", one.id, "b a", "none", "--remove") == f"{folder}\n"
    assert run("ls", "--tag", folder).splitlines() == [
        f"{found.id}  {found.source_key}" for found in (other, one)
    ]
    run("tag", one.id, "kept", folder, "--replace")
    assert run("ls", "--tag", folder, "--tag", "-kept", "--type", "image").startswith(other.id)
    assert "24x16  " in run("ls", "-l", "--tag", "kept", "--tag", folder)
    shown = json.loads(run("ls", "--json", "--tag", "kept", "--tag", folder))
    assert (shown["id"], shown["tags"]) == (one.id, sorted(["kept", folder]))
    assert json.loads(run("show", one.id, "--json"))["content_hash"] == one.content_hash
    assert f"source_key      {one.source_key}\n" in run("show", one.id)
    run("tag", one.id, "-x", code=2)
    run("tag", one.id, "x", "--remove", "--replace", code=2)
    run("show", str(uuid.uuid4()), code=3)
    run("show", "x", code=2)
    assert "with missing fields" in run("heal", one.id, other.id)
    assert json.loads(run("heal", one.id, "--json"))["resources"] in (0, 1)
    with ImageStore(server.url, server.token()) as store:
        # The server may have claimed it.
        until(lambda: store.media.get(one.id).dominant_color is not None)
    tags = json.loads(run("tag", one.id, "--json"))
    assert tags == {"id": one.id, "tags": sorted(["kept", folder])}
    assert run("tag", one.id, "--replace") == ""


def test_the_library_is_searched_on_the_command_line(
    run: Callable[..., str], server: Server, folder: str
) -> None:
    texts = {"1.png": f"a red fox {folder}\x1b[31m", "2.png": f"red whale, fox {folder}"}
    fox, whale = (
        ingested(
            server, f"{folder}/{name}", generation={"prompt": text, "seed": seed, "tool": tool}
        )
        for seed, (tool, (name, text)) in enumerate(zip("AB", texts.items(), strict=True))
    )
    until(lambda: len(run("ls", folder).splitlines()) == len(texts))

    def listed(*words: str) -> list[str]:
        return [line.split()[0] for line in run("ls", folder, *words).splitlines()]

    assert listed("red fox") == [fox.id]
    assert listed("--prompt", "red", "--seed", "1") == [whale.id]
    assert listed("--tool", "a", "--type", "image/png") == [fox.id]
    assert (
        listed("--type", "video") == listed("--model", "ink") == listed("--ai-mark", "both") == []
    )
    assert listed("--source-key", str(whale.source_key)) == [whale.id]
    assert listed("--source-prefix", str(whale.source_key)) == [whale.id]
    assert listed("--content-hash", fox.content_hash, "--from", "2026-01-01") == [fox.id]
    assert listed("--before", "2026-01-01") == []
    run("ls", "--type", "movie", code=2)
    run("ls", "--seed", "-1", code=2)
    shown = run("show", fox.id)
    assert f"  prompt        a red fox {folder}\ufffd[31m\n  seed          0\n" in shown
    assert "raw" not in shown
    assert json.loads(run("show", fox.id, "--json"))["generation"]["tool"] == "A"


@pytest.mark.parametrize(
    "words",
    ["ls", "show x", "tag x", "heal", "ingest a.png", "sweep", "dead-letters ls", "migrate"],
)
def test_a_command_in_another_folder_is_refused_and_makes_no_store(
    tmp_path: Path, words: str
) -> None:
    done = ran(tmp_path, ("media", *words.split()), {})

    assert (done.code, done.out) == (2, "")
    assert "there is no store in 'stillroom-data': set STILLROOM_DATA_DIR" in done.err
    assert "for a bucket, set R2_ENDPOINT_URL" in done.err
    assert list(tmp_path.iterdir()) == []


def test_what_a_command_ingests_is_searched_once_the_command_has_ended(
    server: Server, tmp_path: Path, folder: str
) -> None:
    with ImageStore(server.url, server.token()) as store:
        store.save(f"{folder}/a.png", picture(uuid.uuid4().int), generation={"prompt": "a red fox"})
        until(lambda: [*store.search("fox", prefix=folder)])  # so the server has written all rows

        done = ran(
            tmp_path,
            ("media", "ingest", f"{folder}/a.png"),
            {"STILLROOM_DATA_DIR": str(server.data)},
        )

        (found,) = store.media.list(q="fox", source_key=f"compute/{folder}/a.png")
        assert (done.code, found.storage_key) == (0, done.out.split()[1])
        assert found.generation is not None


def test_dead_letters_are_listed_by_ls_and_by_its_former_name(
    server: Server, tmp_path: Path
) -> None:
    def run(*words: str) -> tuple[int, str]:
        variables = {"STILLROOM_DATA_DIR": str(server.data)}
        done = ran(tmp_path, ("media", "dead-letters", *words), variables)
        return done.code, done.out

    assert run("ls") == run("list") == (0, "")
    variables = {"STILLROOM_DATA_DIR": str(server.data)}
    nothing = ran(tmp_path, ("media", "ls", "--tag", "unheardof"), variables)
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "nothing found\n")
    nothing = ran(tmp_path, ("media", "sweep", "--dry-run"), variables)
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "nothing is due\n")
    code, said = run("--help")
    assert code == 0
    assert re.findall(r"^  (\w+) ", said.partition("Commands:")[2], re.MULTILINE) == [
        "drop", "ls", "retry",
    ]  # fmt: skip
