"""Uploads or completes with a grant, and kills itself with SIGKILL at the n-th of the points below.

Reads `N DEED` and, on the next line, the grant as JSON from its input. It works in a child of its
own, so that all is imported once, and answers with the number of points that the child passed, or
-1 if it was killed. A point is before and after each step that changes a disk, bucket or database.
"""

import asyncio
import functools
import inspect
import json
import os
import signal
import sys
from typing import Any

import httpx

from stillroom.app import create_app
from stillroom.features.database import migrations  # noqa: F401  (once, not by each child)
from stillroom.features.library.rows.deletions import DeletionRows
from stillroom.settings import AllSettings
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.publisher import Publisher
from stillroom.store.s3.store import S3ObjectStore

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
passed = 0
kill_at = 0


def point() -> None:
    global passed  # noqa: PLW0603  (one counter for all that can happen in this process)
    passed += 1
    if passed == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def around(owner: Any, name: str) -> None:
    step = getattr(owner, name)

    @functools.wraps(step)
    async def watched(*args: Any, **kwargs: Any) -> Any:
        point()
        found = await step(*args, **kwargs)
        point()
        return found

    @functools.wraps(step)
    def watched_plain(*args: Any, **kwargs: Any) -> Any:
        point()
        found = step(*args, **kwargs)
        point()
        return found

    setattr(owner, name, watched if inspect.iscoroutinefunction(step) else watched_plain)


async def work(deed: str, grant: dict[str, Any]) -> None:
    app = create_app(AllSettings.read())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000"
    ) as client:
        if deed == "put":
            answer = await client.put(grant["url"], content=PNG, headers=grant["headers"])
        else:
            target = "/api/v1/storage/upload-grants/complete"
            answer = await client.post(target, json={"grant": grant["grant"]})
    assert answer.status_code == 200, answer.text


def in_child(deed: str, grant: dict[str, Any]) -> int:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        for owner, names in STEPS:
            for name in names:
                around(owner, name)
        asyncio.run(work(deed, grant))
        os.write(writing, str(passed).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return -1
    assert status == 0, f"the child failed: {status}"
    return int(said)


STEPS: Any = (
    (DataDirectory, ("link_staged", "sync", "sync_folder")),
    (Publisher, ("delete",)),
    (os, ("replace", "setxattr", "unlink", "utime")),
    (DeletionRows, ("mark_save",)),
    (S3ObjectStore, ("copy", "delete", "head", "peek")),
)


if __name__ == "__main__":
    for line in sys.stdin:
        number, deed = line.split()
        kill_at = int(number)
        found = in_child(deed, json.loads(sys.stdin.readline()))
        sys.stdout.write(f"{found}\n")
        sys.stdout.flush()
