"""What each request costs at R2, counted on the wire, and the table that says so."""

import re
import time
import uuid
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from contract.images import PNG
from generation.carriers import png
from pictures import picture
from r2.conftest import Running
from services import stub_faults, stub_r2
from services.stub_r2 import StubR2
from stillroom.assembly import opened_features
from stillroom.features.database import clock
from stillroom.features.library.feature import LibraryFeature
from stillroom.features.library.healing import Outcome
from stillroom.features.library.resource import Change
from stillroom.features.library.sweeper import Sweeper
from stillroom.features.retention.expiry import Expiry
from stillroom.features.retention.rules import Rule, Rules
from stillroom.features.runs.feature import RunsFeature
from stillroom.paths import ImagePath
from stillroom.settings import AllSettings
from videos import Mp4, frames

pytestmark = pytest.mark.slow

IMAGES = "/api/v1/storage/images"
ENTRIES = "/api/v1/storage/entries"
DOCS = Path(__file__).parents[2] / "docs" / "r2.md"
MIB = 1024**2


async def save(client: httpx.AsyncClient, data: bytes = PNG, **fields: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    answer = await client.post(f"{IMAGES}/a.png", files={"file": data}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def get(client: httpx.AsyncClient, status: int = 302) -> httpx.Response:
    answer = await client.get(f"{IMAGES}/a.png")
    assert answer.status_code == status, answer.text
    return answer


async def measure(running: Running, stub: StubR2) -> dict[str, tuple[int, int]]:
    """Each request's class A and class B operations, by its name in the table."""
    measured: dict[str, tuple[int, int]] = {}

    def note(name: str) -> None:
        measured[name] = stub.classes()
        stub.operations.clear()

    async with running() as client:
        etag = (await save(client)).json()["etag"]
        note("`POST`, up to 16 MiB")
        await get(client)
        note("`GET`, saved or seen by this process in the last minute")
        await save(client, if_match=etag)
        note("`POST` with `If-Match`, up to 16 MiB")
        await client.head(f"{IMAGES}/a.png")
        note("`HEAD`")
        await client.delete(f"{IMAGES}/a.png")
        assert stub.operations["DeleteObject"] == 1
        note("`DELETE` (the deletion itself is free)")
        await get(client, 404)
        note("`GET` of a missing image")
        await save(client, if_none_match="*")
        note("`POST` with `If-None-Match: *`, up to 16 MiB")
        await save(client, bytes(40 * MIB))
        note("`POST` of 40 MiB: three parts, begun and completed")
        for number in range(2500):
            stub.objects[f"compute/{number}"] = stub_r2.Stored(b"", {}, '"e"')
        for limit in (1000, 2500):
            answer = await client.get(IMAGES, params={"limit": limit})
            assert len(answer.json()) == limit
            note(f"listing of {limit:,}")
        answer = await client.get(ENTRIES, params={"limit": 100})
        assert len(answer.json()) == 100
        note("entries of 100: each is looked at")
        storage = IMAGES.removesuffix("/images")
        copy = {"source": "a.png", "target": "b.png"}
        assert (await client.post(f"{storage}/copy", json=copy)).status_code == 200
        note("copying one: its bytes stay in the bucket")
        paths = [str(number) for number in range(100)]
        await client.post(f"{storage}/delete", json={"paths": paths})
        note("deleting 100 in one request: as many `DELETE`s")
        await client.get("/healthz")
        note("`/healthz`")
        await client.get("/readyz")
        note("`/readyz`")
    async with running() as client:
        await get(client)
        note("`GET`, seen for the first time")
    async with running(R2_CHECK_EXISTS="false") as client:
        await get(client)
        note("`GET` with `R2_CHECK_EXISTS=false`")
    return measured


async def measure_pictures(running: Running, stub: StubR2) -> dict[str, tuple[int, int]]:
    """The same of thumbnails."""
    measured: dict[str, tuple[int, int]] = {}
    async with running() as client:
        await save(client, picture())
        for name in ("that has to be made, up to 4 MiB", "that is kept here"):
            stub.operations.clear()
            assert (await client.get(f"{IMAGES}/a.png?width=64")).status_code == 200
            measured[f"`GET` of a thumbnail {name}"] = stub.classes()
    async with running(R2_IMAGE_TRANSFORMATIONS="true") as client:
        stub.operations.clear()
        assert (await client.get(f"{IMAGES}/a.png?width=64")).status_code == 302
        measured["the same with `R2_IMAGE_TRANSFORMATIONS`, seen for the first time"] = (
            stub.classes()
        )
    return measured


async def measure_archives(running: Running, stub: StubR2) -> dict[str, tuple[int, int]]:
    """The same of ZIP files."""
    measured: dict[str, tuple[int, int]] = {}
    archive = f"{IMAGES.removesuffix('/images')}/archive"
    paths = [f"zipped/{number}" for number in range(100)]
    async with running() as client:
        for path in paths:
            stub.objects[f"compute/{path}"] = stub_r2.Stored(b"bytes", {}, '"e"')
        stub.operations.clear()
        assert (await client.get(f"{archive}?prefix=zipped/")).status_code == 200
        measured["a ZIP of 100, by a prefix"] = stub.classes()
        stub.operations.clear()
        assert (await client.post(archive, json={"paths": paths})).status_code == 200
        measured["a ZIP of 100, by their paths: each is looked for first"] = stub.classes()
    return measured


async def measure_trash(running: Running, stub: StubR2) -> dict[str, tuple[int, int]]:
    """The same of deletions that can be undone."""
    measured: dict[str, tuple[int, int]] = {}
    trash = f"{IMAGES.removesuffix('/images')}/trash"
    async with running(STILLROOM_TRASH="7d") as client:
        for number in range(10):
            await client.post(f"{IMAGES}/{number}.png", files={"file": PNG})
            stub.operations.clear()
            answer = await client.delete(f"{IMAGES}/{number}.png")
            assert stub.operations["DeleteObject"] == 1
            measured["`DELETE` with [a trash](trash.md): the image is copied"] = stub.classes()
        stub.operations.clear()
        assert len((await client.get(trash)).json()["items"]) == 10
        measured["listing 10 deleted images: each is looked for"] = stub.classes()
        stub.operations.clear()
        restored = await client.post(f"{trash}/{answer.json()['trash_id']}/restore")
        assert restored.status_code == 200, restored.text
        measured["restoring a deleted image"] = stub.classes()
    return measured


async def measure_library(running: Running, stub: StubR2) -> dict[str, tuple[int, int]]:
    """The same of an ingest, and of the sweep that follows."""
    measured: dict[str, tuple[int, int]] = {}
    unswept = {"DELETION_GRACE_SECONDS": "0", "SWEEP_INTERVAL_SECONDS": "0"}
    async with running(**{f"STILLROOM_{name}": value for name, value in unswept.items()}) as client:
        made, generated = Mp4(frames()), png({"parameters": "a fox\nSteps: 20, Seed: 7, Model: m"})
        contents = {
            "new bytes": generated,
            "bytes that the library has": generated,
            "a video, its header in the first 64 KiB": made.file(moov_first=True),
            "a video, its header behind the samples": made.file(before=8 * MIB),
        }
        for what, data in contents.items():
            await save(client, data)
            stub.operations.clear()  # the index may not have it yet: that costs nothing more
            ingest = {"storage_key": "compute/a.png"}
            answer = await client.post("/api/v1/media-resources/ingest", json=ingest)
            assert answer.status_code == 200, answer.text
            measured[f"ingest of {what}"] = stub.classes()
            stub.operations.clear()
            async with opened_features(AllSettings.read()) as store:
                library = store.need(LibraryFeature)
                healed = await library.healer.heal()
                if healed[Outcome.UNFILLED]:
                    measured["looking for the poster of a video, which has none"] = stub.classes()
                if healed[Outcome.FILLED]:
                    measured["dominant colour of an image up to 4 MiB"] = stub.classes()
                    await library.service.change(
                        uuid.UUID(answer.json()["id"]), Change(dominant_color=None)
                    )
                    stub.operations.clear()
                    assert await library.healer.ask() == 1
                    assert await library.healer.heal() == {Outcome.FILLED: 1}
                    measured["healing an image up to 4 MiB"] = stub.classes()
                stub.operations.clear()
                assert (await library.sweeper.sweep()).deleted == 1
            assert stub.operations["DeleteObject"] == 1
            measured.setdefault("a source swept (the deletion itself is free)", stub.classes())
            stub.operations.clear()
    return measured


async def measure_runs(running: Running, stub: StubR2) -> dict[str, tuple[int, int]]:
    """The same of a run, from its publication to its sweep."""
    measured: dict[str, tuple[int, int]] = {}
    runs = "/api/v1/storage/runs"
    at_once = {"DELETION_GRACE_SECONDS": "0", "SWEEP_INTERVAL_SECONDS": "0"}
    async with running(**{f"STILLROOM_{name}": value for name, value in at_once.items()}) as client:
        for number in range(100):
            path = f"{IMAGES}/runs/7/{number:03}.png"
            await client.post(path, files={"file": PNG}, headers={"Expires-In": "1h"})
            if not number:
                measured["`POST` with `Expires-In`, up to 16 MiB"] = stub.classes()
        for number in range(1000):
            await client.post(f"{IMAGES}/large/8/{number:03}.png", files={"file": PNG})
        for name, method, path, count in (
            ("publishing a run of 100, `runs/7`", "POST", f"{runs}/runs/7/publish", 100),
            ("publishing the same again", "POST", f"{runs}/runs/7/publish", 100),
            ("`GET` of a published run, up to 4 MiB", "GET", f"{runs}/runs/7", 0),
            ("listing one published run", "GET", f"{runs}?prefix=runs/", 0),
            ("deleting a published run of 100", "DELETE", f"{runs}/runs/7", 0),
            ("publishing a run of 1,000", "POST", f"{runs}/large/8/publish", 1000),
            ("deleting a published run of 1,000", "DELETE", f"{runs}/large/8", 0),
        ):
            stub.operations.clear()
            form = {"json": {"expected": count}} if method == "POST" else {}
            answer = await client.request(method, path, **form)  # type: ignore[arg-type]  # a form
            assert answer.status_code == 200, answer.text
            measured[name] = stub.classes()
        stub.operations.clear()
    return measured


async def measure_retention(running: Running, stub: StubR2) -> dict[str, tuple[int, int]]:
    """The same of rounds of retention, and of the sweep that follows."""
    measured: dict[str, tuple[int, int]] = {}
    for folder, count in {"many": 1000, "old/7": 100}.items():
        for number in range(count):
            stub.objects[f"compute/{folder}/{number}"] = stub_r2.Stored(b"bytes", {}, '"e"')
    year = timedelta(days=365)
    async with (
        running(STILLROOM_SWEEP_INTERVAL_SECONDS="0") as client,
        opened_features(AllSettings.read()) as store,
    ):
        library, runs = store.need(LibraryFeature), store.need(RunsFeature).runs
        for run in range(10):
            for number in range(10):
                path = f"{IMAGES}/counted/{run}/{number}.png"
                assert (await client.post(path, files={"file": PNG})).status_code == 200
            (await runs.publish(ImagePath(f"counted/{run}"), 10)).close()
        await library.database.rows()
        for name, rule in (
            (
                "a round of retention over 1,000 images, none of which has ended",
                Rule("rule 1", "many/", expire_after=year),
            ),
            (
                "a round that counts 10 published runs of 10 images and ends none",
                Rule("rule 1", "counted/", keep_last_runs=10),
            ),
            (
                "a round that marks 100 images in one folder",
                Rule("rule 1", "old/", expire_after=-year),
            ),
        ):
            expiry = Expiry(
                library.storage, library.database, rules=Rules([rule]), grace=timedelta(0)
            )
            stub.operations.clear()
            marked = await expiry.mark_expired(at_once)
            measured[name] = stub.classes()
        assert marked == 100
        stub.operations.clear()
        with pytest.MonkeyPatch.context() as patch:
            later = clock.Clock(wall=lambda: time.time() + 120)
            patch.setattr(clock, "CLOCK", later)
            swept = await Sweeper(
                library.storage, library.database, still_holds=expiry.still_holds
            ).sweep()
        assert swept.deleted == stub.operations["DeleteObject"] == 100
        classes = stub.classes()
        measured["one of them swept (the deletion itself is free)"] = (
            classes[0] // 100,
            classes[1] // 100,
        )
        stub.operations.clear()
    return measured


async def at_once(_: float) -> bool:
    """Between the pages of a round."""
    return False


async def measure_metadata(running: Running, stub: StubR2) -> dict[str, tuple[int, int]]:
    """The same of how an image was made."""
    measured: dict[str, tuple[int, int]] = {}
    url = "/api/v1/storage/metadata/a.png"
    async with running() as client:
        for where, data in {
            "in the first 64 KiB": png({"parameters": "a fox"}),
            "behind the pixels, or none": picture(size=(300, 200)),
        }.items():
            await save(client, data)
            stub.operations.clear()
            answer = await client.get(url)
            assert answer.status_code == 200, answer.text
            measured[f"`GET` of an image's metadata, {where}"] = stub.classes()
        stub.operations.clear()
        again = await client.get(url, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
        measured["`GET` of metadata that the client has (304)"] = stub.classes()
        stub.operations.clear()
    return measured


def table() -> dict[str, tuple[int, int]]:
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \|$", DOCS.read_text(), re.MULTILINE)
    return {name: (int(class_a), int(class_b)) for name, class_a, class_b in rows}


@pytest.mark.whole
async def test_the_table_in_the_docs_is_what_was_measured(running: Running, stub: StubR2) -> None:
    measured = await measure_pictures(running, stub)  # first: `running` keeps its variables
    stub.operations.clear()
    measured |= await measure_metadata(running, stub)
    measured |= await measure_retention(running, stub)
    measured |= await measure_runs(running, stub)
    stub.operations.clear()
    measured |= await measure_archives(running, stub)
    stub.operations.clear()
    measured |= await measure_library(running, stub)
    stub.operations.clear()
    measured |= await measure(running, stub)
    # Last, since `running` keeps its variables.
    assert table() == measured | await measure_trash(running, stub)


# What docs/scaling.md puts a price on, and the row above that it stands for.
PRICED = {
    "saves up to 16 MiB": "`POST`, up to 16 MiB",
    "saves of 40 MiB": "`POST` of 40 MiB: three parts, begun and completed",
    "known redirects": "`GET`, saved or seen by this process in the last minute",
    "new redirects": "`GET`, seen for the first time",
    "redirects with `R2_CHECK_EXISTS=false`": "`GET` with `R2_CHECK_EXISTS=false`",
    "pages of 1,000 images": "listing of 1,000",
    "ingests of new bytes": "ingest of new bytes",
    "ingests of bytes that the library has": "ingest of bytes that the library has",
    "sources swept": "a source swept (the deletion itself is free)",
    "images deleted": "`DELETE` (the deletion itself is free)",
}
BY_OTHERS = {
    "reads that the CDN has": (0, 0),
    "reads that the CDN has not": (0, 1),  # a GetObject of the CDN's
    "images looked at by the expiry scan": (0, 1),  # docs/media.md, Results that expire
}
CLASS_A_PRICE, CLASS_B_PRICE = 4.50, 0.36


def test_the_prices_in_the_docs_are_the_counts_times_r2s_prices() -> None:
    page = DOCS.with_name("scaling.md").read_text()
    rows = re.findall(r"^- \$([\d.]+): (.+)$", page, re.MULTILINE)
    prices = {what: price for price, of_it in rows for what in of_it.split(", ")}
    counts = {what: table()[row] for what, row in PRICED.items()} | BY_OTHERS

    assert prices == {
        what: f"{class_a * CLASS_A_PRICE + class_b * CLASS_B_PRICE:.2f}"
        for what, (class_a, class_b) in counts.items()
    }


def test_the_price_of_a_round_over_a_million_is_that_of_a_thousand_times_a_thousand() -> None:
    said = re.search(
        r"million images costs ([\d,]+) class A and a million class B operations \(\$(\d+\.\d+)\)",
        " ".join(DOCS.read_text().split()),
    )
    class_a, class_b = table()["a round of retention over 1,000 images, none of which has ended"]

    assert said is not None
    assert (int(said[1].replace(",", "")), class_b) == (class_a * 1000, 1000)
    assert said[2] == f"{class_a * CLASS_A_PRICE / 1000 + class_b * CLASS_B_PRICE / 1000:.2f}"


async def test_a_save_is_one_operation_and_nothing_else(running: Running, stub: StubR2) -> None:
    async with running() as client:
        await save(client)

    assert stub.operations == {"PutObject": 1}


async def test_the_redirect_goes_to_the_cdn_and_is_not_to_be_kept(running: Running) -> None:
    async with running() as client:
        answer = await client.post(f"{IMAGES}/a b/кошка.png", files={"file": PNG})
        found = await client.get(f"{IMAGES}/a b/кошка.png")

    url = "https://cdn.example.com/compute/a%20b/%D0%BA%D0%BE%D1%88%D0%BA%D0%B0.png"
    assert answer.json()["url"] == url
    assert (found.status_code, found.headers["location"]) == (302, url)
    assert found.headers["cache-control"] == "private, no-store"


async def test_a_bucket_in_trouble_is_a_503_with_retry_after(
    running: Running, stub: StubR2
) -> None:
    stub.faults.extend([stub_faults.answers(503, "SlowDown", retry_after="60")] * 100)
    async with running() as client:
        answer = await client.get(f"{IMAGES}/a.png")
        ready = await client.get("/readyz")
        alive = await client.get("/healthz")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (ready.status_code, alive.status_code) == (503, 200)
    assert ready.json()["detail"] == "the bucket is out of reach: it responds 503 SlowDown"


async def test_the_blind_redirect_is_blind(running: Running, stub: StubR2) -> None:
    async with running(R2_CHECK_EXISTS="false") as client:
        await get(client)

    assert stub.operations == {}
