"""Clients that remember each acknowledgement, through whatever happens to the servers.

Each has a folder of its own and does one thing after the other, so that what it was promised says
exactly what must be there. What got no clear answer is done again, as a client should: at once,
and in the end, when all is well, until it is decided.
"""

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx

from acceptance.library import LIBRARY
from pictures import picture
from running import IMAGES
from waiting import until

PATIENCE_S: Final = 70
"""Of a client: longer than the proxy's 60 s, so that it is never the first to give up."""

_SIZES: Final = (0, 0, 20_000, 200_000)
"""Bytes behind the picture of a kilobyte; a decoder does not look there, a hash does."""

_SURE_WITHIN_S: Final = 4.0
"""Less than Stillroom waits for one attempt (5 s): no request of this save is still under way.

S3 cannot withdraw a request; one that a bucket has sat on may be carried out after a deletion
(docs/reliability.md, The bucket). Only what was saved without such a doubt is deleted again.
"""

_ATTEMPTS: Final = 3


@dataclass
class Image:
    """One image of a client's, under a name that is used once.

    Attributes:
        fate: What was acknowledged last, or nothing yet: saved, recorded, relocated, deleted.
        sure: No attempt to save it may still be under way in the bucket.
        resource: Its id and its key in the media library, once it is there.
    """

    path: str
    seed: int
    sha256: str = ""
    fate: str = ""
    sure: bool = True
    resource: tuple[str, str] = ("", "")
    withdrawn: bool = False

    def content(self) -> bytes:
        chance = random.Random(self.seed)
        return picture(self.seed) + chance.randbytes(chance.choice(_SIZES))


@dataclass
class Sent:
    """One request; `trouble` is empty if it was acknowledged, else it is what came instead."""

    phase: str
    operation: str
    began: float
    seconds: float
    trouble: str


@dataclass
class Load:
    """All clients, and what they have seen; `violations` may not be, whatever is broken."""

    url: str
    token: str
    seed: int
    clients: int = 8
    pause_s: float = 0.08
    phase: str = ""
    sent: list[Sent] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._clients = [Client(self, number) for number in range(self.clients)]
        self._threads = [threading.Thread(target=each.run) for each in self._clients]

    @property
    def images(self) -> list[Image]:
        return [image for client in self._clients for image in client.images]

    @property
    def acknowledged(self) -> int:
        return sum(not each.trouble for each in list(self.sent))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int, within_s: float = 90) -> None:
        wanted = self.acknowledged + count
        until(
            lambda: self.acknowledged >= wanted, within_s=within_s,
            as_long_as=lambda: all(thread.is_alive() for thread in self._threads),
        )  # fmt: skip

    def enter(self, phase: str) -> None:
        self.phase = phase
        until(
            lambda: all(client.busy_since in ("", phase) for client in self._clients),
            within_s=2 * PATIENCE_S,
        )

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def settle(self, within_s: float = 60) -> None:
        give_up = time.monotonic() + within_s
        for client in self._clients:
            client.settle(give_up)

    def goes_on(self, pause_s: float) -> bool:
        """Whether there is more to do, after a pause."""
        return not self._stopped.wait(pause_s)


class Client:
    """A folder, a connection, and what it was promised; the phase of the request under way."""

    def __init__(self, load: Load, number: int) -> None:
        self.busy_since = ""
        self.images: list[Image] = []
        self._load = load
        self._folder = f"run-{load.seed}/{number}"
        self._chance = random.Random(f"{load.seed}-{number}")
        self._undecided: list[Callable[[], bool]] = []
        self._http = httpx.Client(
            base_url=load.url,
            headers={"Authorization": f"Bearer {load.token}"},
            timeout=PATIENCE_S,
        )
        self._bucket = httpx.Client(timeout=PATIENCE_S)

    def run(self) -> None:
        while self._load.goes_on(self._chance.uniform(0, 2 * self._load.pause_s)):
            self._act()

    def settle(self, give_up: float) -> None:
        for deed in self._undecided:
            while not deed():
                if time.monotonic() > give_up:
                    self._load.violations.append(f"{self._folder}: never got through in the end")
                    return
                time.sleep(0.2)  # between two attempts, as clients do
        self._undecided = []
        self._http.close()
        self._bucket.close()

    # What it does ------------------------------------------------------------------------

    def _act(self) -> None:
        saved = [image for image in self.images if image.fate == "saved"]
        deed = self._chance.random()
        if deed < 0.35 or len(saved) < 3:
            seed = self._chance.getrandbits(48)
            image = Image(f"{self._folder}/{len(self.images)}.png", seed)
            self.images.append(image)
            self._try(lambda: self._save(image))
        elif deed < 0.60:
            self._read(self._chance.choice(saved))
        elif deed < 0.70:
            self._list()
        elif deed < 0.75:
            self._call("look", "HEAD", f"{IMAGES}/{self._chance.choice(saved).path}")
        elif deed < 0.80:
            self._call("page of the library", "GET", f"{LIBRARY}?limit=20")
        elif sure := [image for image in saved if image.sure]:
            self._change(self._chance.choice(sure), deed)

    def _change(self, image: Image, deed: float) -> None:
        image.fate = "undecided"
        if deed < 0.92:
            self._try(lambda: self._ingest(image, relocate=True))
        elif deed < 0.94:
            self._try(lambda: self._ingest(image, relocate=False))
        elif deed < 0.97:
            self._try(lambda: self._delete(image))
        elif self._try(lambda: self._ingest(image, relocate=True)):
            self._try(lambda: self._withdraw(image))

    def _try(self, deed: Callable[[], bool]) -> bool:
        for _ in range(_ATTEMPTS):
            if deed():
                return True
            if not self._load.goes_on(self._chance.uniform(0.1, 0.5)):
                break
        self._undecided.append(deed)
        return False

    # Changes: true once they are acknowledged ----------------------------------------------

    def _save(self, image: Image) -> bool:
        content = image.content()
        image.sha256 = hashlib.sha256(content).hexdigest()
        began = time.monotonic()
        answer = self._call("save", "POST", f"{IMAGES}/{image.path}", files={"file": content})
        image.sure &= answer is not None and time.monotonic() - began < _SURE_WITHIN_S
        if answer is None:
            return False
        if answer.json()["sha256"] != image.sha256:
            self._wrong(f"{image.path}: another hash is acknowledged")
        image.fate = "saved"
        return True

    def _ingest(self, image: Image, *, relocate: bool) -> bool:
        wanted = {"storage_key": f"compute/{image.path}", "relocate": relocate}
        answer = self._call("ingest", "POST", f"{LIBRARY}/ingest", also=(404,), json=wanted)
        if answer is None:
            return False
        if answer.status_code == 404:
            # Done before, unanswered, and the source has been swept since: ask by its hash.
            ask = {"content_hash": image.sha256}
            answer = self._call("page of the library", "GET", LIBRARY, params=ask)
            if answer is None:
                return False
            found = answer.json()
            if len(found) != 1 or not relocate:
                self._wrong(f"{image.path}: acknowledged, and gone before it was ingested")
                return True
            resource = found[0]
        else:
            resource = answer.json()
        if resource["content_hash"] != image.sha256:
            self._wrong(f"{image.path}: ingested as {resource['content_hash']}")
        image.resource = (resource["id"], resource["storage_key"])
        image.fate = "relocated" if relocate else "recorded"
        return True

    def _delete(self, image: Image) -> bool:
        answer = self._call("delete", "DELETE", f"{IMAGES}/{image.path}", also=(404,))
        image.fate = image.fate if answer is None else "deleted"
        return answer is not None

    def _withdraw(self, image: Image) -> bool:
        url = f"{LIBRARY}/{image.resource[0]}"
        answer = self._call("delete from the library", "DELETE", url, also=(404,))
        image.withdrawn |= answer is not None
        return answer is not None

    # Looks -------------------------------------------------------------------------------

    def _read(self, image: Image) -> None:
        answer = self._call("read", "GET", f"{IMAGES}/{image.path}", also=(302,))
        if answer is None:
            return
        began, phase = time.monotonic(), self._load.phase
        self.busy_since = phase
        trouble = ""
        try:
            found = self._bucket.get(answer.headers["location"])
            if found.status_code >= 500:
                trouble = f"{found.status_code} of the bucket"
            elif hashlib.sha256(found.content).hexdigest() != image.sha256:
                self._wrong(f"{image.path}: the bucket answers {found.status_code}, other bytes")
        except httpx.TransportError:
            trouble = "no answer of the bucket"
        self._note(phase, "read in the bucket", began, trouble)

    def _list(self) -> None:
        ask: dict[str, str | int] = {"prefix": f"{self._folder}/", "limit": 10_000}
        answer = self._call("listing", "GET", IMAGES, params=ask)
        if answer is None:
            return
        listed = set(answer.json())
        for image in self.images:
            if image.fate in ("saved", "recorded") and image.path not in listed:
                self._wrong(f"{image.path}: {image.fate}, and not listed")
            if image.fate == "deleted" and image.path in listed:
                self._wrong(f"{image.path}: deleted, and listed")

    # One request -------------------------------------------------------------------------

    def _call(
        self, operation: str, method: str, url: str, *, also: tuple[int, ...] = (), **how: object
    ) -> httpx.Response | None:
        """The answer, if it is an acknowledgement: 200, or one of those that are fine as well."""
        began, phase = time.monotonic(), self._load.phase
        self.busy_since = phase
        answer: httpx.Response | None = None
        try:
            answer = self._http.request(method, url, **how)  # type: ignore[arg-type]  # as httpx has them
            acknowledged = answer.status_code in (200, *also)
            trouble = "" if acknowledged else self._trouble(operation, answer)
        except httpx.TransportError as error:
            acknowledged, trouble = False, f"no answer ({type(error).__name__})"
            self._wrong(f"{operation}: {trouble} after {time.monotonic() - began:.1f} s")
        self._note(phase, operation, began, trouble)
        return answer if acknowledged else None

    def _trouble(self, operation: str, answer: httpx.Response) -> str:
        status = answer.status_code
        by_proxy = "text/html" in answer.headers.get("content-type", "")
        if by_proxy and status in (502, 504):
            return f"{status} of the proxy"
        if status == 503 and answer.request.method == "HEAD":
            return "503"
        if status == 503 and "retry-after" in answer.headers:
            return f"503 {answer.json()['code']}"
        self._wrong(f"{operation}: {status} {answer.text[:200]}")
        return f"{status}"

    def _note(self, phase: str, operation: str, began: float, trouble: str) -> None:
        seconds = time.monotonic() - began
        self.busy_since = ""
        self._load.sent.append(Sent(phase, operation, began, seconds, trouble))

    def _wrong(self, what: str) -> None:
        self._load.violations.append(f"while {self._load.phase}: {what}")
