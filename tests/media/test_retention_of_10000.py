"""10,000 images in 500 runs under five rules: the planned set goes, and nothing else."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from media.expiring import let_it_be_time
from media.library import key
from media.retaining import DAY, RetainingLibrary, named, paths, retaining
from stillroom.concurrently import for_each_concurrently
from stillroom.features.database.config import RowsConfig
from stillroom.features.retention.rules import COMPUTE_TTL, Rule
from stillroom.paths import KeyPrefix, image_entry
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery

# 10,000 images: on a busy machine a bucket takes more than ten minutes.
pytestmark = [pytest.mark.slow, pytest.mark.whole, pytest.mark.timeout(1800)]

IMAGES = 20
RULES = (
    Rule("rule 1", "previews/", expire_after=DAY),
    Rule("rule 2", "experiments/", keep_last_runs=10),
    Rule("rule 3", "daily/", expire_after=30 * DAY, unless_tagged=frozenset({"keep"})),
    Rule("rule 4", "daily/10", keep=True),
    Rule(COMPUTE_TTL, "", expire_after=90 * DAY),
)
KINDS = {"previews": 100, "experiments": 150, "daily": 150, "other": 100}
TAGGED = ("daily/000/00.png", "daily/001/07.png", "daily/149/19.png")


def data_of(path: str) -> bytes:
    """A picture of its own, as far as its first bytes say."""
    return b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + path.encode()


def gone_by_hand() -> set[str]:
    """What the rules say, put in other words."""
    gone = {f"previews/{run:03}/{image:02}.png" for run in range(100) for image in range(IMAGES)}
    gone |= {f"experiments/{run:03}/{n:02}.png" for run in range(140) for n in range(IMAGES)}
    tagged = {path[: len("daily/000")] for path in TAGGED}
    for run in range(150):
        folder = f"daily/{run:03}"
        if folder not in tagged and not folder.startswith("daily/10"):
            gone |= {f"{folder}/{image:02}.png" for image in range(IMAGES)}
    return gone


@pytest.fixture
async def library(
    storage: ImageStorage, config: RowsConfig, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RetainingLibrary]:
    async with retaining(storage, config, monkeypatch) as library:
        yield library


async def test_exactly_what_was_planned_is_gone(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [f"{kind}/{run:03}" for kind, count in KINDS.items() for run in range(count)]
    everything = {f"{folder}/{image:02}.png" for folder in folders for image in range(IMAGES)}

    async def save(path: str) -> None:
        await library.save(path, data_of(path))

    await for_each_concurrently(save, sorted(everything), limit=32)
    for folder in folders:
        if not folder.startswith("previews/"):
            await library.publish(folder)
    rows = await library.database.rows()
    for path in TAGGED:
        resource = await library.ingest(path, relocate=False)
        await rows.tags.change(resource.id, lambda _: frozenset({"keep"}))
    library.by(*RULES)
    library.later(monkeypatch, 31 * DAY)

    planned = await library.planned()

    assert set(paths(planned)) == gone_by_hand()
    assert len(planned) == len(gone_by_hand())
    assert library.marked() == []
    assert await library.round() == len(planned)
    assert named(library.marked()) == paths(planned)
    library.later(monkeypatch, 31 * DAY + timedelta(minutes=5))
    let_it_be_time(library)
    sweeps = await asyncio.gather(*(library.sweeper().sweep() for _ in range(2)))
    assert sum(swept.deleted for swept in sweeps) == len(planned)

    left = everything - gone_by_hand()
    page = await library.meddled.storage.list(ListQuery(KeyPrefix("compute/"), limit=10_000))
    assert {image_entry(name) for name in page.entries} == left

    async def compare(path: str) -> None:
        found = await library.read(key(path))
        assert hashlib.sha256(found).digest() == hashlib.sha256(data_of(path)).digest()

    await for_each_concurrently(compare, sorted(left), limit=32)
    assert await library.planned() == []
    assert await library.round() == 0
