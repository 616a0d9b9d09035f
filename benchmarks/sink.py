"""Receiver of webhooks for benchmarks, which records when each path first arrived."""

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ACCEPTED: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_A_DAY_S: Final = 86_400


class Sink:
    """HTTP server in a thread. With `hangs`, it reads requests and never responds.

    Attributes:
        arrived: Time of the first request for each path, by the monotonic clock.
        requests: Number of requests about images.
    """

    def __init__(self, *, hangs: bool = False) -> None:
        """Prepare the server. `receiving` starts it."""
        self.url = ""
        self.arrived: dict[str, float] = {}
        self.requests = 0
        self._hangs = hangs

    def arrived_in(self, folder: str) -> list[float]:
        """Return the times of all paths in a folder, in no particular order."""
        found = self.arrived.copy().items()
        return [moment for path, moment in found if path.startswith(f"{folder}/")]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle the requests of one connection."""
        ended = asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
        with contextlib.suppress(*ended):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                self._note(json.loads(body))
                if self._hangs:
                    await asyncio.sleep(_A_DAY_S)
                writer.write(_ACCEPTED)
        writer.close()

    def _note(self, event: dict[str, Any]) -> None:
        """Record an event of Stillroom, of SeaweedFS (`key`), or of the plain FastAPI app."""
        path = event.get("data", event).get("path") or event.get("key", "")
        name = "/".join(str(path).split("/")[-2:])
        if name.endswith(".png"):
            self.requests += 1
            self.arrived.setdefault(name, time.monotonic())


@contextlib.contextmanager
def receiving(sink: Sink) -> Iterator[Sink]:
    """Run a sink on a free port of this machine."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(sink.serve, "127.0.0.1", 0))
    sink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield sink
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        server.close()
        loop.close()
