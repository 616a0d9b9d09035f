"""Ways through a bucket's storage, to be walked while requests fail, and what holds afterwards."""

import asyncio
import contextlib
import hashlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from contract.images import PNG, RULES, Chunks, everything, key
from services import proxy_faults as faults
from services.faulty_proxy import Exchange, Fault
from services.proxy_faults import FAULTS
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET
from stillroom.errors import ImageNotFound, PreconditionFailed
from stillroom.store.choose import R2Config, open_storage
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ANY, Condition, ListQuery
from waiting import eventually, until_equal

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))
MIB = 1024**2
OLD = PNG + b"old"
NEW = PNG + b"new"
LARGE = random.Random(1).randbytes(5 * MIB + 70_000)
"""Two parts, once these are cut at the 5 MiB that S3 demands."""

MAX_TELLING = (
    faults.resets_before_the_body,
    faults.does_it_and_resets,
    faults.is_silent,
    faults.breaks_off_its_body,
)
"""All that some walks meet in the short form; the long one has them all for everyone."""

Act = Callable[[ImageStorage, str], Coroutine[object, object, object]]
ANYTHING = Condition()

AT_ONCE = 8
"""Walks at the same time; each has a folder of its own."""


def opened(endpoint_url: str, secret: str = SECRET) -> ImageStorage:
    return open_storage(R2Config(endpoint_url, KEY_ID, secret, BUCKET), RULES)


async def no_upload_is_left(operator: Operator) -> None:
    await asyncio.to_thread(until_equal, operator.uploads, [])


@dataclass
class Walk:
    """One use of the storage in a folder of its own, and what must hold afterwards.

    Attributes:
        requests: S3's names for what it asks of the bucket, in order.
        act: Does it once; a second time after a first one that may have happened is fine.
        holds: Whether its outcome is there, asked without the proxy.
        prepared: Whether `a.png` is there at the beginning.
        thorough: Whether it meets every fault in the short form, too.
        again: What a second time may say.
    """

    name: str
    requests: tuple[str, ...]
    act: Act
    holds: Callable[[Operator, str], bool]
    prepared: bool = True
    thorough: bool = False
    again: tuple[type[Exception], ...] = ()


def body_of(operator: Operator, name: str) -> bytes | None:
    answer = operator.send("GET", f"/{BUCKET}/compute/{name}")
    assert answer.status_code in (200, 404), answer.text
    if answer.status_code == 404:
        return None
    if sha256 := answer.headers.get("x-amz-meta-sha256"):
        assert sha256 == hashlib.sha256(answer.content).hexdigest()
    return answer.content


def saving(content: bytes, condition: Condition = ANYTHING) -> Act:
    async def save(storage: ImageStorage, folder: str) -> None:
        is_small = len(content) < MIB
        source = BytesSource(content) if is_small else Chunks(content[:MIB], content[MIB:])
        saved = await storage.save(key(f"{folder}/a.png"), source, condition)
        assert saved.sha256 == hashlib.sha256(content).digest()

    return save


CREATE = Condition(if_none_match=ANY)
KNOWN = Condition(if_match=frozenset((f'"{hashlib.md5(OLD).hexdigest()}"',)))
save_small, save_large = saving(NEW), saving(LARGE)


async def break_off_large(storage: ImageStorage, folder: str) -> None:
    with contextlib.suppress(ConnectionError):
        await storage.save(key(f"{folder}/a.png"), Chunks(LARGE, breaks=ConnectionError()))


async def delete(storage: ImageStorage, folder: str) -> None:
    await storage.delete(key(f"{folder}/a.png"))


async def copy(storage: ImageStorage, folder: str) -> None:
    await storage.copy(key(f"{folder}/a.png"), key(f"{folder}/b.png"))


async def look(storage: ImageStorage, folder: str) -> None:
    assert (await storage.stat(key(f"{folder}/a.png"))).size == len(OLD)


async def locate(storage: ImageStorage, folder: str) -> None:
    await storage.locate(key(f"{folder}/a.png"))


async def list_folder(storage: ImageStorage, folder: str) -> None:
    page = await storage.list(ListQuery(everything(f"{folder}/")))
    assert page.entries == [f"compute/{folder}/a.png"]


def holds(name: str, content: bytes | None) -> Callable[[Operator, str], bool]:
    return lambda operator, folder: body_of(operator, f"{folder}/{name}") == content


HEAD, PUT, DELETE = "HeadObject", "PutObject", "DeleteObject"
PARTS = ("CreateMultipartUpload", "UploadPart", "UploadPart", "CompleteMultipartUpload")

WALKS = (
    Walk("save-small", (PUT,), save_small, holds("a.png", NEW), thorough=True),
    Walk(
        "create-small", (PUT,), saving(NEW, CREATE), holds("a.png", NEW),
        prepared=False, again=(PreconditionFailed,),
    ),
    Walk(
        "replace-small", (HEAD, PUT), saving(NEW, KNOWN), holds("a.png", NEW),
        again=(PreconditionFailed,), thorough=True,
    ),
    Walk("save-large", PARTS, save_large, holds("a.png", LARGE)),
    Walk(
        "create-large", (HEAD, *PARTS), saving(LARGE, CREATE), holds("a.png", LARGE),
        prepared=False, again=(PreconditionFailed,),
    ),
    Walk(
        "break-off-large", (*PARTS[:2], "AbortMultipartUpload"), break_off_large,
        holds("a.png", OLD),
    ),
    Walk(
        "delete", (HEAD, DELETE), delete, holds("a.png", None),
        again=(ImageNotFound,), thorough=True,
    ),
    Walk("copy", (HEAD, "CopyObject"), copy, holds("b.png", OLD), thorough=True),
    Walk("look", (HEAD,), look, holds("a.png", OLD)),
    Walk("locate", (HEAD,), locate, holds("a.png", OLD)),
    Walk("list", ("ListObjectsV2",), list_folder, holds("a.png", OLD)),
)  # fmt: skip


def faults_of(walk: Walk) -> tuple[Fault, ...]:
    return FAULTS if walk.thorough or ROUNDS > 1 else MAX_TELLING


@dataclass
class Trouble:
    planned: dict[str, Callable[[int, str], Fault | None]] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, asked: Exchange) -> Fault | None:
        folder = asked.about.split("/")[1]
        with self.lock:
            self.counted[folder] += 1
            number = self.counted[folder]
        plan = self.planned.get(folder)
        return plan(number, asked.operation) if plan else None

    async def wait_for(self, requests: int, folder: str) -> None:
        """Nobody waits for an abort, so it may still be on its way."""
        with contextlib.suppress(AssertionError):
            await eventually(lambda: self.counted[folder] >= requests, within_s=5)


async def prepare(operator: Operator, walk: Walk, folder: str) -> None:
    if walk.prepared:
        await asyncio.to_thread(operator.put, f"compute/{folder}/a.png", OLD)


async def succeeds_again(
    storage: ImageStorage, operator: Operator, walk: Walk, folder: str
) -> None:
    """The retry works: it does what is to be done, or finds it done."""
    with contextlib.suppress(*walk.again):
        await walk.act(storage, folder)
    assert await asyncio.to_thread(walk.holds, operator, folder), folder
