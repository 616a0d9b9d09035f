"""Searches among a million rows, and a rebuild, on SQLite and on PostgreSQL.

    PYTHONPATH=tests .venv/bin/python -m benchmarks.search --rows 1000000 --images 20000

Rows have prompts of 30 words of a vocabulary of 21,000 (Zipf), 60 models, 300 LoRAs and seeds of 64
bits. 50,000 are written as the server writes them; the others are copies, by the database itself,
with later times and other paths. Each query runs 300 times with other words, one after another,
through the class that the server uses; a page has 100 images. The rebuild reads PNG files of 20 KB
with A1111's parameters.
"""

import argparse
import asyncio
import contextlib
import functools
import io
import math
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from PIL import Image

from generation.carriers import chunk
from services.postgres import postgresql
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.library.database import MediaDatabase
from stillroom.features.search.counts import count_again, count_next
from stillroom.features.search.database import count_rows, search_rows
from stillroom.features.search.filling import IndexFilling
from stillroom.features.search.healing import IndexHealing, never_pauses
from stillroom.features.search.rows import SearchRows
from stillroom.features.search.terms import parse_terms
from stillroom.features.search.values import IndexedImage, SearchQuery
from stillroom.generation.reading import Found
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.capabilities import UNWATCHED
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.sources import BytesSource
from stillroom.store.values import SaveRules, StoredImage
from stillroom.wire.generation import Generation, Lora

_BATCH: Final = 500
_WRITTEN: Final = 50_000
_RUNS: Final = 300
_SAVED: Final = 2000
_SAVES: Final = ((180, 1), (180, 4), (180, 16), (640, 4))
"""Pixels a side, and saves at once."""

_ROUNDS: Final = 5
_HEAD: Final = 33
"""Bytes of a PNG in front of its first text: signature and IHDR."""

_BEGAN_NS: Final = 1_750_000_000 * 10**9
_EVERYTHING: Final = KeyPrefix("compute/")
_VOCABULARY: Final = [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in range(300)]
_PROMPT_WORDS: Final = 30

Made = Callable[[], SearchQuery]
Asked = Callable[[SearchQuery], Awaitable[object]]


class Rows:
    """Made-up images."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._weights = [1 / (at + 3) for at in range(len(_VOCABULARY))]
        self._words: list[str] = []

    def words(self, count: int) -> list[str]:
        """As often as words are in prompts."""
        if len(self._words) < count:
            self._words = self._random.choices(_VOCABULARY, self._weights, k=200_000)
        found, self._words = self._words[:count], self._words[count:]
        return found

    def image(self, number: int) -> IndexedImage:
        """The n-th one."""
        moment = _BEGAN_NS + number * 10**9
        stored = StoredImage(
            key=StorageKey(f"compute/user{number % 1000}/{number // 1000}/{number}.png"),
            size=1_258_291,
            etag=f'"{moment:x}-133333-2a"',
            modified_ns=moment,
            content_type="image/png",
            sha256=self._random.randbytes(32),
            save_id=f"{moment:x}",
        )
        facts = Generation(
            tool="A1111" if number % 3 else "ComfyUI",
            prompt=" ".join(self.words(_PROMPT_WORDS)),
            negative_prompt="blurry, lowres, bad anatomy",
            seed=self.seed(number),
            steps=20,
            cfg_scale=7.0,
            sampler=("Euler a", "DPM++ 2M", "UniPC")[number % 3],
            model=f"model_{int(self._random.paretovariate(0.7)) % 60}_v1.safetensors",
            loras=(Lora(f"lora_{number % 300}", 0.8),),
        )
        return IndexedImage.of(stored, Found(facts))

    @staticmethod
    def seed(number: int) -> int:
        """Of the n-th image."""
        return number * 6_364_136_223_846_793_005 % 2**64


def queries(rows: int) -> dict[str, Made]:
    """What is measured, by name."""
    made = Rows(7)
    rare = random.Random(1)

    def filtered(asked: str = "", after: int | None = None) -> SearchQuery:
        return SearchQuery(prefix=_EVERYTHING, terms=parse_terms(asked).terms, after=after)

    return {
        "newest first": filtered,
        "newest first, 100,000 images on": lambda: filtered(
            after=_BEGAN_NS + (rows - min(rows // 2, 100_000)) * 10**9
        ),
        "a folder, newest first": lambda: SearchQuery(
            prefix=KeyPrefix(f"compute/user{rare.randrange(1000)}/")
        ),
        "a seed": lambda: filtered(f"seed:{Rows.seed(rare.randrange(_WRITTEN))}"),
        "a model": lambda: filtered(f"model:model_{rare.randrange(60)}_v1"),
        "a LoRA and a tool": lambda: filtered(f"lora:lora_{rare.randrange(300)} tool:A1111"),
        "a word": lambda: filtered(made.words(1)[0]),
        "three words": lambda: filtered(" ".join(made.words(3))),
        "a phrase of two words": lambda: filtered(f'"{" ".join(made.words(2))}"'),
        "a word and a model": lambda: filtered(
            f"{made.words(1)[0]} model:model_{rare.randrange(60)}_v1"
        ),
        "a word that no image has": lambda: filtered("qqqq"),
        "largest first": lambda: SearchQuery(prefix=_EVERYTHING, order="size"),
        "a folder, largest first": lambda: SearchQuery(
            prefix=KeyPrefix(f"compute/user{rare.randrange(1000)}/"), order="size"
        ),
    }


async def fill(rows: SearchRows) -> float:
    """Write `_WRITTEN` rows as the server does; seconds."""
    made, began = Rows(3), time.perf_counter()
    for start in range(0, _WRITTEN, _BATCH):
        await rows.write([made.image(number) for number in range(start, start + _BATCH)])
    return time.perf_counter() - began


def multiply(config: RowsConfig, count: int) -> None:
    """Copy what was written until there are so many rows."""
    kept = "size, etag, content_type, sha256, save_id, generation, ai_mark, words"
    with migrating(config) as connection:
        for copy in range(1, count // _WRITTEN):
            later = copy * _WRITTEN * 10**9
            copied = f"SELECT id + {later}, storage_key || '-{copy}', saved_ns + {later}, {kept}"
            connection.execute(
                sa.text(
                    f"INSERT INTO search_images (id, storage_key, saved_ns, {kept}) {copied}"
                    f" FROM search_images WHERE id < {_BEGAN_NS + _WRITTEN * 10**9}"
                )
            )
            if not isinstance(config, PostgresConfig):
                texts = "prompt, path, model, lora, facets"
                connection.execute(
                    sa.text(
                        f"INSERT INTO search_words (rowid, {texts})"
                        f" SELECT rowid + {later}, {texts} FROM search_words"
                        f" WHERE rowid < {_BEGAN_NS + _WRITTEN * 10**9}"
                    )
                )


def counted(rows: int) -> dict[str, Made]:
    """What is measured of the counts of models and the like, by name."""
    names = ("newest first", "a folder, newest first", "a model", "a word", "a phrase of two words")
    made = queries(rows)
    return {f"counts: {name}": made[name] for name in names}


def keep_some(config: RowsConfig) -> None:
    """Add every tenth image to the library, in place, with two of 500 tags."""
    new_id, binary = "lower(hex(randomblob(16)))", "BLOB"
    if isinstance(config, PostgresConfig):
        new_id, binary = "gen_random_uuid()", "BYTEA"
    with migrating(config) as connection:
        many = "SELECT storage_key, save_id, size, row_number() OVER (ORDER BY id) AS number"
        hashed = f"CAST(CAST(number AS TEXT) AS {binary})"
        connection.execute(
            sa.text(
                "INSERT INTO media_resources (id, resource_type, storage_key, save_id,"
                " content_hash, extension, content_type, file_size, width, height, created_at)"
                f" SELECT {new_id}, 'image', storage_key, save_id, {hashed}, 'png', 'image/png',"
                f" size, 1, 1, CURRENT_TIMESTAMP FROM ({many} FROM search_images) AS numbered"
                " WHERE number % 10 = 0"
            )
        )
        numbered = "SELECT id, row_number() OVER (ORDER BY id) AS number FROM media_resources"
        for at, tags in enumerate((37, 463)):
            connection.execute(
                sa.text(
                    "INSERT INTO media_tags (resource_id, tag) SELECT id,"
                    f" 'tag {at}-' || (number % {tags}) FROM ({numbered}) AS numbered"
                )
            )


async def count_rows_of(database: MediaDatabase) -> float:
    """Count all rows again, as after an upgrade; seconds."""
    engine = await database.engine()
    await engine.rewrite(count_again)
    began = time.perf_counter()
    while await engine.rewrite(lambda connection: count_next(connection, 1000)):
        pass
    return time.perf_counter() - began


async def timed(ask: Asked, made: Made) -> list[float]:
    """Milliseconds of each run."""
    found = []
    for _ in range(_RUNS):
        query = made()
        began = time.perf_counter()
        await ask(query)
        found.append((time.perf_counter() - began) * 1000)
    return sorted(found)


def size_of(config: RowsConfig) -> int:
    """Bytes of the index."""
    with migrating(config) as connection:
        if isinstance(config, PostgresConfig):
            asked = "SELECT pg_total_relation_size('search_images')"
            return int(connection.execute(sa.text(asked)).scalar_one())
        asked = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        return int(connection.execute(sa.text(asked)).scalar_one())


def analyzed(config: RowsConfig) -> None:
    """As PostgreSQL's autovacuum does it in the background."""
    if isinstance(config, PostgresConfig):
        with migrating(config) as connection:
            for table in ("search_images", "media_resources", "media_tags"):
                connection.execute(sa.text(f"ANALYZE {table}"))


def walked(folder: Path, word: str) -> int:
    """How many images below a folder have a word in their facts, as a script finds them."""
    number = 0
    for file in folder.rglob("*.png"):
        with Image.open(file) as image:
            number += word in str(image.info.get("parameters", "")).split()
    return number


def asked_of_exiftool(folder: Path, word: str) -> int:
    """The same, by one process of ExifTool that looks no further than it must."""
    found = f"$Parameters =~ /\\b{word}\\b/"
    command = [
        "exiftool",
        "-q",
        "-q",
        "-fast",
        "-r",
        "-ext",
        "png",
        "-if",
        found,
        "-p",
        "$FileName",
    ]
    shown = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    return len(shown.stdout.splitlines())


async def beside_others(config: RowsConfig, folder: Path, count: int) -> None:
    """Print what a question takes that is asked of the index, and of the files themselves."""
    word, took = _VOCABULARY[500], {}
    database = MediaDatabase(config)
    rows = await search_rows(database)
    query = SearchQuery(prefix=_EVERYTHING, terms=parse_terms(f'prompt:"{word}"').terms, limit=1000)
    await rows.search(query)
    began = time.perf_counter()
    numbers = [len((await rows.search(query)).images)]
    took["the index"] = time.perf_counter() - began
    await database.close()
    for name, ask in (("a walk with Pillow", walked), ("ExifTool", asked_of_exiftool)):
        began = time.perf_counter()
        numbers.append(ask(folder, word))
        took[name] = time.perf_counter() - began
    if len(set(numbers)) != 1:
        raise AssertionError(f"not the same images were found: {numbers}")
    for name, seconds in took.items():
        ratio = seconds / took["the index"]
        print(
            f"| {count:,} images, {numbers[0]} found by {name} | {seconds:.3f} s | {ratio:,.0f} |"
        )


async def rebuilt(config: RowsConfig, folder: Path, count: int) -> float:
    """Images a second of a rebuild, of files on a disk."""
    storage = open_storage(
        DiskConfig(folder, durable=False), SaveRules(2**30), disk=FastDiskStorage
    )
    made = Rows(5)
    for number in range(count):
        words = " ".join(made.words(_PROMPT_WORDS))
        data = noise(80, words, number=number)
        await storage.save(StorageKey(f"compute/{number % 100}/{number}.png"), BytesSource(data))
    database = MediaDatabase(config)
    healing = IndexHealing(storage, database, compares_saves=True)
    began = time.perf_counter()
    await healing.rebuild(never_pauses, restart=True, progress=lambda _: None)
    seconds = time.perf_counter() - began
    await database.close()
    await storage.close()
    return count / seconds


def noise(side: int, words: str = "", *, number: int = 7) -> bytes:
    """A PNG as tools write it: the facts, then pixels that do not shrink, in chunks of 64 KiB."""
    words = words or " ".join(Rows(9).words(_PROMPT_WORDS))
    text = f"parameters\0{words}\nSteps: 20, Sampler: Euler a, Seed: {number}, Model: m"
    plain = pixels(side)
    return plain[:_HEAD] + chunk(b"tEXt", text.encode()) + plain[_HEAD:]


@functools.cache
def pixels(side: int) -> bytes:
    """A PNG that says nothing."""
    file = io.BytesIO()
    made = random.Random(side).randbytes(side * side * 3)
    Image.frombytes("RGB", (side, side), made).save(file, "PNG")
    return file.getvalue()


async def saving(
    config: RowsConfig, folder: Path, data: bytes, at_once: int, *, indexed: bool
) -> tuple[float, float]:
    """Milliseconds of each save: to the last answer, and of processors with all that follows.

    Every file is synced; the rows are written while saves go on, as beside a server.
    """
    database = MediaDatabase(config)
    await database.rows()
    filling = IndexFilling(database)
    rules, where = SaveRules(2**30), DiskConfig(folder, min_free_bytes=0)
    changes = filling if indexed else UNWATCHED
    storage = open_storage(where, rules, changes=changes, disk=FastDiskStorage)
    count = _SAVED * 100_000 // max(100_000, len(data))
    numbers = iter(range(count))

    async def save() -> None:
        for number in numbers:
            await storage.save(StorageKey(f"compute/{number % 10}/{number}.png"), BytesSource(data))

    async with filling.running(storage, stop_within_s=30):
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(save() for _ in range(at_once)))
        seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    await storage.close()
    await database.close()
    return seconds / count * 1000, cpu / count * 1000


def saves(
    name: str, made: Callable[[], RowsConfig], folder: Path, data: bytes, at_once: int
) -> None:
    """Print what a save takes without the index, and with it: medians of rounds that alternate."""
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for at in range(2 * _ROUNDS):
        indexed = at % 2 == 1
        where = folder / f"saves-{at}"
        found[indexed].append(asyncio.run(saving(made(), where, data, at_once, indexed=indexed)))
        shutil.rmtree(where)
    shown = []
    for what in (0, 1):
        pairs = [(a[what], b[what]) for a, b in zip(found[False], found[True], strict=True)]
        without, beside = (statistics.median(some) for some in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        shown.append(f"{without:.2f} ms, with the index {beside:.2f}: {ratio:.3f}")
    head = f"{name}, {len(data):,} bytes, {at_once} at once"
    print(f"{head}: a save {shown[0]}; processor time {shown[1]}", flush=True)


async def measured(name: str, config: RowsConfig, rows: int) -> None:
    """Fill one database, and print its rows of the table."""
    database = MediaDatabase(config)
    index = await search_rows(database)
    seconds = await fill(index)
    multiply(config, rows)
    keep_some(config)
    analyzed(config)
    print(f"{name}: {_WRITTEN / seconds:,.0f} rows/s, {size_of(config) / rows:,.0f} bytes a row")
    print(f"{name}: all rows counted again in {await count_rows_of(database):.0f} s", flush=True)
    counts = await count_rows(database)
    count: Asked = functools.partial(counts.facets, with_tags=True)
    for ask, all_made in ((count, counted(rows)), (index.search, queries(rows))):
        for what, made in all_made.items():
            found = await timed(ask, made)
            p99 = found[math.ceil(0.99 * len(found)) - 1]
            print(f"| {what} | {name} | {statistics.median(found):.1f} | {p99:.1f} |", flush=True)
    await database.close()


@contextlib.contextmanager
def databases(folder: Path, chosen: str) -> Iterator[list[tuple[str, Callable[[], RowsConfig]]]]:
    """Both, or one; each call makes an empty one."""
    numbers = iter(range(100))
    sqlite = ("SQLite", lambda: SqliteConfig(folder / f"{next(numbers)}.db"))
    if chosen == "sqlite":
        yield [sqlite]
        return
    with postgresql() as server:
        found = ("PostgreSQL", lambda: PostgresConfig(server.make_database()))
        yield [found] if chosen == "postgresql" else [sqlite, found]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=20_000, help="of the rebuild")
    parser.add_argument("--database", choices=("both", "sqlite", "postgresql"), default="both")
    parser.add_argument("--searches-only", action="store_true", help="no saves, and no rebuild")
    parser.add_argument("--folder", type=Path, default=None, help="for scratch data")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch)
        with databases(folder, asked.database) as found:
            for name, made in found:
                if not asked.searches_only:
                    for side, at_once in _SAVES:
                        saves(name, made, folder, noise(side), at_once)
                    config, images = made(), folder / f"images-{name}"
                    rate = asyncio.run(rebuilt(config, images, asked.images))
                    print(f"{name}: {rate:,.0f} images/s rebuilt")
                    asyncio.run(beside_others(config, images, asked.images))
                asyncio.run(measured(name, made(), asked.rows))


if __name__ == "__main__":
    main()
