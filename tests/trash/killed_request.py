"""Sends a request to our application, and kills itself with SIGKILL at the n-th point below.

Reads `N` and, on the next line, the request as JSON from its input: method, url, and json. The
method `SWEEP` executes the pending deletions that are due. Each request is sent in a child, so that
all is imported once. The answer is the number of points that the child passed, or -1 if it was
killed. A point is before and after each step that changes a disk, bucket or database.
"""

import asyncio
import json
import os
import sys
from typing import Any

import httpx

import killing
from stillroom.app import create_app
from stillroom.assembly import opened_features
from stillroom.features.database import migrations  # noqa: F401  (once, not by each child)
from stillroom.features.library.feature import LibraryFeature
from stillroom.features.library.rows.deletions import DeletionRows
from stillroom.features.runs.rows import RunRows
from stillroom.features.trash.rows import TrashRows
from stillroom.settings import AllSettings
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.publisher import Publisher
from stillroom.store.s3.store import S3ObjectStore

STEPS: Any = (
    (DataDirectory, ("link_staged", "sync", "sync_folder")),
    (Publisher, ("delete",)),
    (os, ("rename", "replace", "setxattr", "unlink", "utime")),
    (DeletionRows, ("claim", "mark_save", "settle")),
    (RunRows, ("begin", "claim", "end", "mark", "note_publication", "release")),
    (TrashRows, ("add", "cancel_others", "claim", "release", "remove")),
    (S3ObjectStore, ("copy", "delete", "head", "peek")),
)


async def send(request: dict[str, Any]) -> None:
    if request["method"] == "SWEEP":
        async with opened_features(AllSettings.read()) as store:
            await store.need(LibraryFeature).sweeper.sweep()
        return
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(application), base_url="http://127.0.0.1:8000"
    ) as client:
        answer = await client.request(**request)
    assert answer.status_code == 200, answer.text


def work(line: str) -> str:
    number, request = json.loads(line)
    for owner, names in STEPS:
        for name in names:
            killing.around(owner, name)
    killing.begin(number)
    asyncio.run(send(request))
    return str(killing.passed)


application = create_app(AllSettings.read())  # once, not by each child
for order in sys.stdin:
    sys.stdout.write(f"{killing.in_child(work, order) or -1}\n")
    sys.stdout.flush()
