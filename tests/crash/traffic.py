"""Clients that remember what the server has promised them, and check it afterwards."""

import base64
import hashlib
import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from pictures import picture
from running import IMAGES, Server
from waiting import until

Digest = str | None
"""The SHA-256 of what a path holds, or None for nothing."""

COPY = "/api/v1/storage/copy"
LIBRARY = "/api/v1/media-resources"
TRASH = "/api/v1/storage/trash"
PICTURE = picture()
SIZES = (1, 100, 100, 70_000, 70_000, 1_500_000)
STALE = '"0-0-0"'


@dataclass
class Traffic:
    """Saves, replacements and deletions, guarded and not, from several threads.

    They go on until they are stopped or the server dies, and can be started again
    on another server: what was promised by the first one binds the second.
    """

    server: Server
    seed: int
    clients: int = 4
    has_library: bool = False
    """Images are copied and ingested, too."""
    promised: dict[str, Digest] = field(default_factory=dict)
    """The last acknowledged state of every path."""
    attempted: dict[str, Digest] = field(default_factory=dict)
    """What was under way, unanswered: it may have happened or not."""
    etags: dict[str, str] = field(default_factory=dict)
    """The ETag of every path that holds something, as it was promised."""
    sent: dict[str, set[Digest]] = field(default_factory=dict)
    """Everything that was ever to be saved under a path."""
    trash: dict[str, tuple[str, Digest]] = field(default_factory=dict)
    """Path and content of every id in the trash that was acknowledged."""
    discarding: dict[str, Digest] = field(default_factory=dict)
    """What paths held whose deletion was unanswered: it is there or in the trash."""
    resources: dict[str, Digest] = field(default_factory=dict)
    """The content of every resource of the library, by its id."""
    has_power: bool = True
    """False from the moment before a power cut.

    While a filesystem shuts down, fsync can return success without effect. SQLite then commits what
    is lost, such as 14 of 444 transactions on ext4 and XFS in Linux 6.18. A machine without power
    sends no response, so what depends on a row and is acknowledged after that moment may be lost.
    Images must not be lost even then.
    """
    acknowledged: int = 0
    rounds: int = 0
    broken: list[str] = field(default_factory=list)
    """What an answer said, while all was well, that it must not say."""

    def start(self) -> None:
        self._stopped = threading.Event()
        self._answers = 0
        self.has_power = True
        self.rounds += 1
        self.server.token()  # asked for now: a dying server's data directory has none to give
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_some_is_promised(self, count: int = 20) -> None:
        until(
            lambda: self._answers >= count, said=self.server.logged,
            as_long_as=lambda: any(thread.is_alive() for thread in self._threads),
        )  # fmt: skip

    def join(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self.acknowledged += self._answers

    def _run(self, number: int) -> None:
        chance = random.Random(f"{self.seed}-{self.rounds}-{number}")
        with self.server.client() as client:
            while not self._stopped.is_set():
                # Half of the folders are new ones: their names must survive as well.
                folder = chance.choice((f"{chance.randrange(4)}", f"new/{self.rounds}"))
                path = f"{self.seed}/{number}/{folder}/{chance.randrange(6)}.bin"
                try:
                    self._act(client, path, chance)
                except httpx.TransportError:
                    return  # the server died
                except httpx.HTTPStatusError as error:
                    if error.response.status_code != 503:
                        self.broken.append(f"{path}: {error.response.status_code}")
                    return  # it says that it cannot save any more
                self._answers += 1

    def _act(self, client: httpx.Client, path: str, chance: random.Random) -> None:
        """One request, and what its answer promises.

        Raises:
            httpx.HTTPError: it was not acknowledged.
        """
        url = f"{IMAGES}/{path}"
        digest = self.promised.get(path)
        guarded = chance.random() < 0.5
        deed = chance.random()
        if deed < 0.1:
            answer = client.get(url)
            if answer.status_code not in (200, 404):
                answer.raise_for_status()
            if digest_of(answer) != digest:
                self.broken.append(f"{path}: {digest_of(answer)} is read, {digest} was promised")
        elif deed < 0.2:
            stale = {"If-None-Match": "*"} if digest and guarded else {"If-Match": STALE}
            answer = client.post(url, files={"file": b"stale"}, headers=stale)
            if answer.status_code != 412:
                answer.raise_for_status()
                self.broken.append(f"{path}: saved in spite of {stale}")
        elif digest and deed < 0.4:
            guard = {"If-Match": self.etags[path]} if guarded else {}
            self._delete(client, path, digest, guard, is_final=chance.random() < 0.3)
        elif deed < 0.5 and (trash_id := self._trash_id_of(path)) is not None and not digest:
            self.attempted[path] = self.trash[trash_id][1]
            restored = client.post(f"{TRASH}/{trash_id}/restore").raise_for_status()
            self._require_power()
            self._note(path, self.trash.pop(trash_id)[1], restored.json()["etag"])
        elif self.has_library and digest and deed < 0.6:
            target = f"{path}.copy"
            self.attempted[target] = digest
            copied = client.post(COPY, json={"source": path, "target": target}).raise_for_status()
            self._note(target, digest, copied.json()["etag"])
        else:
            data = chance.randbytes(chance.choice(SIZES))
            is_ingested = self.has_library and deed < 0.7
            guard = {"If-Match": self.etags[path]} if digest else {"If-None-Match": "*"}
            self._save(client, path, PICTURE * is_ingested + data, guard if guarded else {})
            if is_ingested:
                order = {"storage_key": f"compute/{path}"}
                ingested = client.post(f"{LIBRARY}/ingest", json=order).raise_for_status()
                self._require_power()
                self.resources[ingested.json()["id"]] = self.promised[path]

    def _save(self, client: httpx.Client, path: str, data: bytes, guard: dict[str, str]) -> None:
        self.attempted[path] = hashlib.sha256(data).hexdigest()
        self.sent.setdefault(path, set()).add(self.attempted[path])
        saved = client.post(f"{IMAGES}/{path}", files={"file": data}, headers=guard)
        facts = saved.raise_for_status().json()
        if facts["sha256"] != self.attempted[path]:
            self.broken.append(f"{path}: another hash is acknowledged")
        self._note(path, self.attempted[path], facts["etag"])

    def _delete(
        self,
        client: httpx.Client,
        path: str,
        digest: Digest,
        guard: dict[str, str],
        *,
        is_final: bool,
    ) -> None:
        self.attempted[path] = None
        url = f"{IMAGES}/{path}"
        if is_final:
            client.delete(f"{url}?purge=true", headers=guard).raise_for_status()
        else:
            self.discarding[path] = digest
            answer = client.delete(url, headers=guard).raise_for_status()
            self._require_power()
            if (trash_id := answer.json().get("trash_id")) is not None:
                self.trash[trash_id] = path, digest
            del self.discarding[path]
        self._note(path, None, "")

    def _require_power(self) -> None:
        if not self.has_power:
            raise httpx.ReadError("the power is off")

    def _trash_id_of(self, path: str) -> str | None:
        """The id of what was deleted under a path, which only one thread uses."""
        return next((one for one, (of, _) in self.trash.copy().items() if of == path), None)

    def _note(self, path: str, digest: Digest, etag: str) -> None:
        self.promised[path] = digest
        self.etags[path] = etag
        del self.attempted[path]

    def _lost_from_trash(self, client: httpx.Client) -> list[str]:
        """What is neither in its place nor in the trash, or has other bytes there."""
        if not self.trash:
            return []
        found: list[str] = []
        page = client.get(TRASH, params={"limit": 1000}).raise_for_status().json()
        items = {item["id"]: item["path"] for item in page["items"]}
        for trash_id, (path, digest) in self.trash.items():
            restoring = self.attempted.get(path, self.promised.get(path)) == digest
            if trash_id not in items and not restoring:
                found.append(f"{path}: {trash_id} is not in the trash")
        for path, digest in self.discarding.items():
            in_place = digest_of(client.get(f"{IMAGES}/{path}")) == digest
            if not in_place and path not in items.values():
                found.append(f"{path}: {digest} is in neither place")
        for number, trash_id in enumerate(items):
            known = self.trash.get(trash_id)
            target = f"{self.seed}-restored/{trash_id}.bin"
            if number < 3 and known is not None:
                restored = client.post(f"{TRASH}/{trash_id}/restore", json={"path": target})
                if restored.status_code != 503:  # the claim of a killed restoration goes on
                    restored.raise_for_status()
                    if digest_of(client.get(f"{IMAGES}/{target}")) != known[1]:
                        found.append(f"{known[0]}: other bytes are restored")
                    client.delete(f"{IMAGES}/{target}?purge=true").raise_for_status()
                    continue
            client.delete(f"{TRASH}/{trash_id}").raise_for_status()
        self.trash, self.discarding = {}, {}
        return found

    def violations(self, client: httpx.Client) -> list[str]:
        """Every path whose state is neither the promised one nor the one under way.

        What is found is the promise from here on.
        """
        found = self._lost_from_trash(client)
        for resource, digest in self.resources.items():
            answer = client.get(f"{LIBRARY}/{resource}/file")
            if digest_of(answer) != digest:
                found.append(f"{resource}: {answer.status_code}, {digest} was ingested")
        found += self.unsettled(client, self.promised.keys() | self.attempted.keys())
        ask: dict[str, str | int] = {"prefix": f"{self.seed}/", "limit": 10_000}
        listed = set(client.get(IMAGES, params=ask).raise_for_status().json())
        for path in listed ^ {path for path, digest in self.promised.items() if digest}:
            found.append(f"{path}: read and list disagree")
        return found

    def unsettled(self, client: httpx.Client, paths: Iterable[str] | None = None) -> list[str]:
        """The same for some paths: those with something under way, if no others are named."""
        found, self.broken = self.broken, []
        for path in sorted(self.attempted if paths is None else paths):
            answer = client.get(f"{IMAGES}/{path}")
            actual = digest_of(answer)
            allowed = [self.promised.get(path), self.attempted.get(path, self.promised.get(path))]
            if actual not in allowed or answer.status_code not in (200, 404):
                found.append(f"{path}: {answer.status_code}, {actual} is none of {allowed}")
            # A deletion that did not happen, or a restoration that did: it may be replaced now.
            if self.discarding.get(path) == actual:
                self.discarding.pop(path, None)
            restored = [one for one, known in self.trash.items() if known == (path, actual)]
            for trash_id in restored if path in self.attempted else []:
                del self.trash[trash_id]
            if actual is not None:
                found += self._wrong_facts(path, actual, answer)
                self.etags[path] = answer.headers["etag"]
            self.promised[path] = actual
        self.attempted.clear()
        return found

    def _wrong_facts(self, path: str, actual: str, answer: httpx.Response) -> list[str]:
        found = []
        if answer.headers.get("repr-digest") != repr_digest(actual):
            found.append(f"{path}: its hash is given as {answer.headers.get('repr-digest')}")
        if path not in self.attempted and answer.headers["etag"] != self.etags[path]:
            found.append(f"{path}: its ETag has changed")
        return found


def digest_of(answer: httpx.Response) -> Digest:
    return hashlib.sha256(answer.content).hexdigest() if answer.status_code == 200 else None


def repr_digest(digest: str) -> str:
    """How `Repr-Digest` spells a hexadecimal SHA-256."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"
