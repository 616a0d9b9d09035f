"""Every file-system call of every change fails once: the right error, and nothing has changed."""

import contextlib
import itertools
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.images import PNG, RULES, Chunks, everything, key
from crash.faults import Verdict, carry_out, intercept
from stillroom.errors import BackendUnavailable, ReadOnly, StillroomError, StorageFull
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.openat2 import Opener, open_by_kernel, open_by_walk
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import Condition, ListQuery

FAILURES = ("EIO", "ENOSPC", "EDQUOT", "EMFILE", "short")
OLD = PNG + b"old"
NEW = PNG + b"new"
LARGE = bytes(range(256)) * 12_000  # three batches

State = dict[str, bytes]
Change = Callable[[DiskImageStorage], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """A change, the state that it finds, and what it makes of `a/b/image.png`."""

    name: str
    change: Change
    before: State
    after: bytes | None
    at: str = "a/b/image.png"

    @property
    def wanted(self) -> State:
        rest = {path: data for path, data in self.before.items() if path != self.at}
        return rest if self.after is None else {**rest, self.at: self.after}


def saving(data: bytes, condition: Condition | None = None, at: str = "a/b/image.png") -> Change:
    return lambda storage: storage.save(key(at), BytesSource(data), condition or Condition())


def copying(to: str) -> Change:
    return lambda storage: storage.copy(key("a/other.png"), key(to))


def saving_in_pieces(storage: DiskImageStorage) -> Awaitable[object]:
    pieces = [LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000)]
    return storage.save(key("a/b/image.png"), Chunks(*pieces, max_bytes=len(LARGE) + 500))


async def replacing_what_is_there(storage: DiskImageStorage) -> object:
    etag = (await storage.stat(key("a/b/image.png"))).etag
    guard = Condition(if_match=frozenset({etag}))
    return await storage.save(key("a/b/image.png"), BytesSource(NEW), guard)


KNOWN_FOLDER = "another save into a folder that this process has synced"
CREATE_ONLY = Condition(if_none_match="*")
THERE: State = {"a/b/image.png": OLD, "a/other.png": OLD}
ELSEWHERE: State = {"a/other.png": OLD}
CASES = [
    Case("a first save", saving(NEW), {}, NEW),
    Case(KNOWN_FOLDER, saving(NEW), {"a/b/other.png": OLD}, NEW),
    Case("a replacement", saving(NEW), THERE, NEW),
    Case("a guarded replacement", replacing_what_is_there, THERE, NEW),
    Case("a create-only save", saving(NEW, CREATE_ONLY), ELSEWHERE, NEW),
    Case("a large save", saving_in_pieces, ELSEWHERE, LARGE),
    Case("a large replacement", saving_in_pieces, THERE, LARGE),
    Case("a save over empty folders", saving(NEW, at="e"), ELSEWHERE, NEW, at="e"),
    Case("a deletion", lambda storage: storage.delete(key("a/b/image.png")), THERE, None),
    Case("a copy", copying("c/d/copy.png"), ELSEWHERE, OLD, at="c/d/copy.png"),
    Case("a copy over an image", copying("a/b/image.png"), {**THERE, "a/b/image.png": NEW}, OLD),
]


def creates(flags: int) -> bool:
    return bool(flags & os.O_CREAT) or flags & os.O_TMPFILE == os.O_TMPFILE


@dataclass
class OneFailure:
    number: int
    verdict: str
    seen: int = 0
    hit: str = ""
    armed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(self, name: str, arguments: tuple[Any, ...]) -> Verdict:
        if not self.armed or (self.verdict == "short" and name not in SHORTENED):
            return None
        with self._lock:
            self.seen += 1
            if self.seen != self.number:
                return None
        self.hit = "create" if name == "open" and creates(arguments[1]) else name
        return self.verdict

    def opener(self, real: Opener) -> Opener:
        def opening(folder_fd: int, path: str, flags: int) -> int:
            verdict = self.decide("openat2", (folder_fd, path, flags))
            opened: int = carry_out(verdict, "openat2", real, folder_fd, path, flags)
            return opened

        return opening

    @contextlib.contextmanager
    def happening(self) -> Iterator[None]:
        restore = intercept(self.decide)
        self.armed = True
        try:
            yield
        finally:
            self.armed = False
            restore()


@dataclass(frozen=True)
class Way:
    opener: Opener
    nameless: bool


FALLBACKS = "the fallbacks"
WAYS = {
    "all that Linux has": Way(open_by_kernel, nameless=True),
    FALLBACKS: Way(open_by_walk, nameless=False),
}


def opened(root: Path, way: Way, *, durable: bool = True) -> DiskImageStorage:
    data_directory = DataDirectory(root, opener=way.opener, durable=durable)
    data_directory.has_nameless_files = way.nameless
    return FastDiskStorage(data_directory, RULES)


async def state_of(storage: DiskImageStorage) -> State:
    """What a reader in another process finds, by listing and reading."""
    state: State = {}
    for entry in (await storage.list(ListQuery(everything(), limit=100))).entries:
        path = entry.removeprefix("compute/")
        image = await storage.locate(key(path))
        state[path] = b"".join([chunk async for chunk in image.chunks(0, image.image.size)])
        image.close()
    return state


SHORTENED = {"writev", "copy_file_range"}
NO_ROOM_IN = {
    "copy_file_range", "create", "ftruncate", "link", "mkdir", "posix_fallocate", "replace",
    "setxattr", "writev",
}  # fmt: skip


def complaints(error: BaseException, failure: OneFailure) -> Iterator[str]:
    if not isinstance(error, StillroomError):
        yield f"{error!r} has no status"
    elif failure.hit == "fsync":
        if not isinstance(error, ReadOnly):
            yield f"{error!r} after a failed sync"
    elif failure.verdict in {"ENOSPC", "EDQUOT"} and failure.hit in NO_ROOM_IN:
        if not isinstance(error, StorageFull):
            yield f"{error!r} where there is no room"
    elif not isinstance(error, BackendUnavailable | StorageFull):
        yield f"{error!r} for a disk that fails"


def leaks(root: Path, failure: OneFailure, descriptors: int) -> Iterator[str]:
    if (now := len(os.listdir("/proc/self/fd"))) != descriptors:
        yield f"{now - descriptors} descriptors are left open"
    if (left := os.listdir(root / ".stillroom/staging")) and failure.hit != "unlink":
        yield f"left in staging: {left}"


def changes(case: Case, state: State, raised: BaseException | None) -> Iterator[str]:
    if raised is None and state != case.wanted:
        yield "acknowledged, and not done"
    # Only after a failed sync of the folder is the outcome unknown.
    if raised is not None and state != case.before and not isinstance(raised, ReadOnly):
        yield f"{raised!r}, and it is changed"
    if state not in (case.before, case.wanted):
        yield "neither before nor after"


async def prepared(root: Path, case: Case, way: Way) -> tuple[DiskImageStorage, DiskImageStorage]:
    """Two processes' views of a store in the state that the case begins with."""
    before = opened(root, way, durable=False)  # no sync that nobody looks at: they cost most
    for path, data in case.before.items():
        await before.save(key(path), BytesSource(data))
    await before.close()
    (root / "compute/e/empty/too").mkdir(parents=True)
    mine, theirs = opened(root, way), opened(root, way, durable=False)
    if case.name == KNOWN_FOLDER:
        await mine.save(key("a/b/other.png"), BytesSource(OLD))
    return mine, theirs


async def tried(root: Path, case: Case, way: Way, failure: OneFailure) -> list[str]:
    """Run the change with one failing call; everything about it that is wrong."""
    mine, theirs = await prepared(root, case, way)
    mine._data_directory.open_contained = failure.opener(way.opener)
    descriptors = len(os.listdir("/proc/self/fd"))

    raised: BaseException | None = None
    with failure.happening():
        try:
            await case.change(mine)
        except Exception as error:  # noqa: BLE001  (which one it is, is the question)
            raised = error

    found = list(leaks(root, failure, descriptors))
    state = await state_of(theirs)
    found += changes(case, state, raised)
    if raised is not None:
        found += complaints(raised, failure)
    if isinstance(raised, ReadOnly):
        for storage in (mine, theirs):
            with contextlib.suppress(ReadOnly):
                await storage.check()
                found.append("a sync has failed, and saving goes on")
            await storage.close()
        mine, theirs = opened(root, way, durable=False), opened(root, way, durable=False)
    if state != case.wanted:
        await case.change(mine)
        if await state_of(theirs) != case.wanted:
            found.append("trying again does not help")
    await mine.close()
    await theirs.close()
    where = f"{case.name}, call {failure.number} ({failure.hit}) {failure.verdict}"
    return [f"{where}: {what}" for what in found]


async def violations(
    root: Path, case: Case, way: Way, verdict: str, count: Callable[[], None]
) -> list[str]:
    """Let the first call fail, then the second, and so on, until none is left."""
    found = []
    for number in itertools.count(1):
        failure = OneFailure(number, verdict)
        found += await tried(root / str(number), case, way, failure)
        if not failure.hit:
            assert number > 5 or verdict == "short", "the calls are not seen"
            return found
        count()
    raise AssertionError
