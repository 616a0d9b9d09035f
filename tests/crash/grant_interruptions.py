"""Interrupted upload grants: clients and servers are killed, and the bucket fails.

Each completion without a successful response is repeated later by another process, since it may
have saved its image. So are some uploads that were not completed before; the others are abandoned.
In the end, exactly the acknowledged images exist, and no uploads do a day later.
"""

import contextlib
import hashlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx

from crash.grant_cases import FAULTS, Case, Trouble
from crash.grant_deeds import COMPLETE, Order, content_of
from crash.grant_sites import GRANTS, GrantSite
from crash.rounds import Round
from running import IMAGES
from services.faulty_proxy import Fault

_SIZES: Final = (1, 2_000, 70_000, 200_000)
_POINTS: Final = {"disk": 32, "bucket": 14}
"""Points at which a completion can be killed, and a few more, since some completions have more."""

_POINTS_OF_UPLOAD: Final = 10
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER without time: close sends RST
_CLIENTS: Final = 6  # of a server that is killed


class GrantInterruptions:
    """Interruptions of the grants of one store."""

    def __init__(self, folder: Path, storage: str, *, seed: int) -> None:
        self._folder, self._storage = folder / storage, storage
        self._folder.mkdir(parents=True)
        self._seed = seed
        self._chance = random.Random(f"{seed}-{storage}")
        self._cases: list[Case] = []
        self._waiting: list[Case] = []
        self._expected: dict[str, str] = {}  # SHA-256 of each acknowledged image
        self._violations: list[str] = []
        self.causes: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.leftovers: list[str] = []

    def rounds(self, count: int) -> Iterator[Round]:
        """Yield a round for each interrupted grant. The last one has the state a day later."""
        with contextlib.ExitStack() as stack:
            self._site = GrantSite(self._folder, self._storage, stack)
            while (done := self.causes.total()) < count:
                self._interrupt_one()
                for _ in range(self.causes.total() - done):
                    if self._waiting and self._chance.random() < 0.5:
                        self._continue(
                            self._waiting.pop(self._chance.randrange(len(self._waiting)))
                        )
                    yield self._round()
            while self._waiting:
                self._continue(self._waiting.pop())
            self._check_the_end()
            yield self._round()

    def _round(self) -> Round:
        found, self._violations = self._violations, []
        acknowledged = self.counts["acknowledged"] - self.counts["reported"]
        self.counts["reported"] += acknowledged
        return Round(acknowledged, found)

    # Interruptions

    def _interrupt_one(self) -> None:
        kinds = {
            self._stop_client: 4,
            self._break_off: 3,
            self._kill_completion: 5,
            self._kill_server: 1,
            **({self._kill_upload: 3} if self._site.bucket is None else {}),
            **({self._fail_upload: 2, self._fail_completion: 5} if self._site.proxy else {}),
        }
        (kind,) = self._chance.choices([*kinds], [*kinds.values()])
        kind()

    def _note(self, case: Case, cause: str) -> None:
        self.causes[cause] += 1
        if case.saved is None and (case.is_asked or self._chance.random() < 0.5):
            self._waiting.append(case)

    def _issue(self) -> Case:
        number, chance = len(self._cases), self._chance
        path, size = f"{number % 7}/{number}.bin", chance.choice(_SIZES)
        content = (f"{self._seed}-{number}", size)
        data = content_of(*content)
        terms: dict[str, object] = {"path": path, "size": size, "expires_in": 7200}
        if chance.random() < 0.5:
            terms["sha256"] = hashlib.sha256(data).hexdigest()
        if chance.random() < 0.25:
            terms["expires_after"] = "7d"
        is_new = chance.random() < 0.6
        if is_new and chance.random() < 0.5:
            terms["if_none_match"] = "*"
        with self._site.server.client() as client:
            if not is_new:
                files = {"file": f"old {number}".encode()}
                saved = client.post(f"{IMAGES}/{path}", files=files).raise_for_status().json()
                self._expected[path] = saved["sha256"]
            grant = client.post(GRANTS, json=terms).raise_for_status().json()
        case = Case(path, content, grant, self._expected.get(path))
        self._cases.append(case)
        return case

    def _uploaded(self) -> Case:
        case = self._issue()
        assert self._site.put(case.grant, case.data) == 200
        return case

    def _stop_client(self) -> None:
        if self._chance.random() < 0.5:
            self._note(self._issue(), "client killed before the upload")
        else:
            self._note(self._uploaded(), "client killed after the upload")

    def _break_off(self) -> None:
        """Send the head and a part of the body, and close or reset the connection."""
        case = self._issue()
        url = httpx.URL(case.grant["url"])
        fields = {"Host": url.netloc.decode(), "Content-Length": str(case.content[1])}
        lines = [f"{name}: {value}" for name, value in {**fields, **case.grant["headers"]}.items()]
        head = "\r\n".join([f"PUT {url.raw_path.decode()} HTTP/1.1", *lines, "", ""])
        sent = case.data[: self._chance.randrange(case.content[1])]
        with socket.create_connection(("127.0.0.1", self._site.upload_port)) as connection:
            connection.sendall(head.encode() + sent)
            if self._chance.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._note(case, "client killed during the upload")

    def _kill_upload(self) -> None:
        case, kill_at = self._issue(), self._chance.randint(1, _POINTS_OF_UPLOAD)
        found = self._site.deeds.carry_out(Order("put", case.grant, case.content, kill_at))
        if found is None:
            self._note(case, "process killed during the upload")
        else:
            self._expect(case, found.status, {200}, "an upload")
            self._note(case, "client killed after the upload")

    def _kill_completion(self) -> None:
        """Kill a process that completes a grant, in some cases while another one does so."""
        case, kill_at = self._uploaded(), self._chance.randint(1, _POINTS[self._storage])
        case.is_asked = True
        with ThreadPoolExecutor() as pool:
            is_shared = self._chance.random() < 0.25
            other = pool.submit(self._complete, case) if is_shared else None
            found = self._site.deeds.carry_out(Order("complete", case.grant, kill_at=kill_at))
        if other is not None:
            self._expect(case, other.result(), {200}, "a completion by two processes")
        if found is not None:
            self._take(case, found.status, found.answer)
        else:
            self._note(case, "process killed during the completion")

    def _kill_server(self) -> None:
        """Kill the server while several clients upload and complete."""
        cases = [self._issue() for _ in range(_CLIENTS)]
        broken: list[Case] = []

        def upload(case: Case) -> None:
            try:
                self._expect(case, self._site.put(case.grant, case.data), {200}, "an upload")
                case.is_asked = True
                self._expect(case, self._complete(case), {200}, "a completion")
            except httpx.TransportError:
                broken.append(case)

        with ThreadPoolExecutor(_CLIENTS) as pool:
            running = [pool.submit(upload, case) for case in cases]
            time.sleep(self._chance.uniform(0, 0.25))  # the moment is the experiment
            self._site.kill()
        for one in running:
            one.result()
        self._site.restart()
        for case in broken:
            self._note(case, "server killed")

    def _fail_upload(self) -> None:
        case, fault = self._issue(), self._chance.choice(FAULTS)
        with self._trouble(case, fault, "PutObject", 0), contextlib.suppress(httpx.TransportError):
            self._site.put(case.grant, case.data, timeout_s=0.5)
        self._note(case, "bucket fails during the upload")

    def _fail_completion(self) -> None:
        case, fault = self._uploaded(), self._chance.choice(FAULTS)
        always = ["", "", "HeadObject", "GetObject", "CopyObject", "DeleteObject"]
        operation, number = self._chance.choice(always), self._chance.randint(1, 6)
        case.is_asked = True
        with self._trouble(case, fault, operation, number) as trouble:
            found = self._site.deeds.carry_out(Order("complete", case.grant, hurries=True))
        assert found is not None
        if found.status != 503:
            self._take(case, found.status, found.answer)
        if trouble.met:
            self._note(case, "bucket fails during the completion")
        elif case.saved is None:  # the machine was slow
            self._waiting.append(case)

    @contextlib.contextmanager
    def _trouble(self, case: Case, fault: Fault, operation: str, number: int) -> Iterator[Trouble]:
        trouble = Trouble(fault, operation=operation, number=number, keys=case.keys)
        proxy = self._site.proxy
        assert proxy is not None
        proxy.choose = trouble.choose
        yield trouble
        proxy.choose = lambda _: None

    # Completions

    def _complete(self, case: Case) -> int:
        """Complete at the server, and return the status."""
        with self._site.server.client() as client:
            answer = client.post(COMPLETE, json={"grant": case.grant["grant"]})
        if answer.status_code == 200:
            self._take(case, 200, answer.json())
        return answer.status_code

    def _take(self, case: Case, status: int, answer: dict[str, Any]) -> None:
        """Note the response to a completion."""
        self._expect(case, status, {200}, f"a completion ({answer.get('code')})")
        if status != 200:
            return
        expected = hashlib.sha256(case.data).hexdigest()
        if case.saved is None:
            case.saved = answer
            self.counts["acknowledged"] += 1
            self._expected[case.path] = expected
        if answer != case.saved or answer["size"] != case.content[1]:
            self._violations.append(f"{case.path}: {answer} after {case.saved}")
        if answer["sha256"] not in (None, expected):
            self._violations.append(f"{case.path}: another hash is acknowledged")

    def _expect(self, case: Case, status: int, allowed: set[int], what: str) -> None:
        if status not in allowed:
            self._violations.append(f"{case.path}: {what} is {status}")

    def _continue(self, case: Case) -> None:
        """Repeat the upload if it is missing, and complete, each in another process."""
        if case.saved is not None:
            return
        with self._site.server.client() as client:
            found = self._site.read(client, case.path)
        actual = hashlib.sha256(found).hexdigest() if found is not None else None
        new = hashlib.sha256(case.data).hexdigest()
        if actual not in ({case.old, new} if case.is_asked else {case.old}):
            self._violations.append(f"{case.path}: has {actual} before it is continued")
        self.counts["saved without a response"] += actual == new
        case.is_asked = True
        if self._complete_elsewhere(case) == "upload_missing":
            status = self._site.put(case.grant, case.data)
            self._expect(case, status, {200, 412}, "a repeated upload")  # 412: it arrived late
            self._complete_elsewhere(case)
        if case.saved is None:
            self._violations.append(f"{case.path}: cannot be completed")
        self.counts["continued"] += 1

    def _complete_elsewhere(self, case: Case) -> str | None:
        """Complete in a new process, up to 90 minutes later. Return the code of an error."""
        hours = self._chance.uniform(0, 1.5)
        found = self._site.deeds.carry_out(Order("complete", case.grant, hours_later=hours))
        assert found is not None
        code: str | None = found.answer.get("code")
        if code != "upload_missing":
            self._take(case, found.status, found.answer)
        return code

    # The end

    def _check_the_end(self) -> None:
        site, completed = self._site, [case for case in self._cases if case.saved]
        abandoned = [case for case in self._cases if not case.saved]
        self.counts["abandoned"] = len(abandoned)
        for case in completed:
            self._expect(case, self._complete(case), {200}, "a repetition")
        for case in self._chance.sample(completed, len(completed) // 10):
            self._expect(case, site.put(case.grant, case.data), {200}, "an upload afterwards")
        self._check_images()
        uploads = site.uploads()
        site.end_uploads(is_later=False)
        if site.uploads() != uploads:
            self._violations.append("uploads are deleted too early")
        self.counts["uploads left"] = len(uploads)
        site.end_uploads(is_later=True)
        self._violations += [f"left after a day: {name}" for name in site.uploads()]
        for case in self._chance.sample(abandoned, min(len(abandoned), 20)):
            self._expect(case, site.complete_later(case.grant), {403}, "an expired completion")
        self._check_images()
        self.leftovers = site.leftovers()

    def _check_images(self) -> None:
        """Exactly the acknowledged images exist, with their bytes."""
        for path in {*self._site.images()} ^ self._expected.keys():
            self._violations.append(f"{path}: exists or was acknowledged, but not both")
        with self._site.server.client() as client:
            for path, digest in self._expected.items():
                found = self._site.read(client, path)
                if found is None or hashlib.sha256(found).hexdigest() != digest:
                    self._violations.append(f"{path}: has other bytes than the acknowledged ones")

    def figures(self) -> str:
        """Return a line for people, after the last round."""
        causes = ", ".join(f"{count} {cause}" for cause, count in sorted(self.causes.items()))
        return f"{causes}; {dict(self.counts)}; also left: {self.leftovers}"
