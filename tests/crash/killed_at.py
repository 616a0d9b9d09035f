"""Does something to a library, and kills itself with SIGKILL at the n-th of the points below.

Reads `N DEED WHAT` from each line of its input; `work` has the deeds. It works in a child of its
own (so that all is imported only once), and answers with the points that it passed, or -1. A point
is before and after all that changes anything: each commit of a transaction that wrote, and each
step of the storage that is no reading. What a statement did is rolled back until its commit, so a
kill between two of these points leaves what the first one left.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

import killing
from crash.rules import rules_about
from killing import around, begin, in_child, point
from stillroom.assembly import opened_features
from stillroom.features.database import migrations  # noqa: F401  (once, not by each child)
from stillroom.features.library.feature import LibraryFeature
from stillroom.features.library.rows import repository  # noqa: F401  (as above)
from stillroom.features.library.service import MediaResourceService
from stillroom.features.library.sweeper import Sweeper
from stillroom.features.retention import expiry as expiry_module
from stillroom.features.retention.expiry import Expiry
from stillroom.features.retention.rules import Rules
from stillroom.features.runs import deletion as run_deletion
from stillroom.features.runs import service as run_service
from stillroom.features.runs.feature import RunsFeature
from stillroom.paths import ImagePath, StorageKey
from stillroom.settings import AllSettings
from stillroom.store.bucket.storage import R2ImageStorage
from stillroom.store.disk.publisher import Publisher
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.feature import Store

has_written = False  # in the transaction that is open
has_committed = False  # and nothing was asked of the database since


def before_statement(*_: object) -> None:
    global has_committed  # noqa: PLW0603  (of the only transaction)
    if has_committed:
        has_committed = False
        point()


def after_statement(*found: Any) -> None:
    global has_written  # noqa: PLW0603  (as above)
    has_written = has_written or found[2].startswith(("INSERT", "UPDATE", "DELETE"))


def at_commit(_: sa.Connection) -> None:
    global has_written, has_committed
    if has_written:
        point()
    has_written, has_committed = False, has_written


async def goes_on(_: float) -> bool:
    return False


async def work(deed: str, what: str) -> None:
    async with opened_features(AllSettings.read()) as store:
        library, runs = store.need(LibraryFeature), store.need(RunsFeature)
        storage, database = library.storage, library.database
        await database.rows()  # migrating has a test of its own
        event.listen(sa.Engine, "before_cursor_execute", before_statement)
        event.listen(sa.Engine, "after_cursor_execute", after_statement)
        event.listen(sa.Engine, "commit", at_commit)
        service = MediaResourceService(storage, database, grace=timedelta(hours=1))
        expiry = Expiry(storage, database, rules=Rules(rules_about(what)), grace=timedelta(0))
        if deed == "sweep":
            await library.sweeper.sweep()
        elif deed == "expire":
            await expiry.mark_expired(goes_on)
        elif deed == "sweep-by-rules":
            await Sweeper(storage, database, still_holds=expiry.still_holds).sweep()
        elif deed == "publish":
            (await runs.runs.publish(ImagePath.parse(what), None)).close()
        elif deed == "delete":
            await runs.deletions.delete(ImagePath.parse(what))
        else:
            assert deed in ("ingest", "ingest-in-place"), deed
            key = StorageKey.of_image(ImagePath.parse(what))
            await service.ingest_from_storage_key(key, relocate=deed == "ingest")
        point()


def run(order: str) -> str:
    number, *deed = order.rstrip("\n").split(" ")
    begin(int(number))
    asyncio.run(work(*deed))
    return str(killing.passed)


@contextlib.asynccontextmanager
async def no_indexing(self: Store) -> AsyncIterator[None]:  # noqa: ARG001  (as the method)
    """The index is filled in the background, so that the number of points would vary."""
    yield


Store.indexing = no_indexing  # type: ignore[method-assign]  # see its docstring
expiry_module._PAGE = 2  # type: ignore[misc]  # several pages of a few images
for module in (run_service, run_deletion):
    vars(module)["PAGE"] = 2
for storage in (DiskImageStorage, R2ImageStorage):
    for step_name in ("copy", "delete", "save"):
        around(storage, step_name)
around(Publisher, "_publish_in")

for order in sys.stdin:
    sys.stdout.write(f"{in_child(run, order) or -1}\n")
    sys.stdout.flush()
