"""Rounds: every server in turn, in another order each time, and what each used."""

import contextlib
import dataclasses
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers, servers
from benchmarks.cases import (
    ASGI,
    BEHIND_NGINX,
    BYTES_FROM_NGINX,
    COLD,
    CORPORA,
    IMAGES,
    MIB,
    NEWER,
    OURS,
    Case,
    Team,
)
from benchmarks.load import pump, wrk
from benchmarks.processes import LOAD_CORE, SERVER_CORE, cores, cpu_seconds, forget_peak, peak_bytes
from benchmarks.progress import Progress
from benchmarks.pump import Order, drawn
from benchmarks.servers import SAVED, SECRET, Server, image_bytes
from benchmarks.traffic import link_corpora, make_corpora, traffic_of

_BOUNDARY = "stillroom-benchmark"
_WARM_UP_S = 0.2

PYTHON_313 = Path(__file__).parents[1] / ".make" / "python-3.13" / "bin" / "stillroom"
"""Where `make bench` installs Stillroom beside itself, where there is such a Python."""

_LONGEST_S = 10


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Attributes:
        rounds: How often each server gets its turn.
        seconds: How long a turn lasts.
        others: How many of the rounds the servers take part in that no target is about.
    """

    rounds: int
    seconds: float
    others: int

    @property
    def turn_s(self) -> float:
        """What a turn takes about, with its preparations."""
        return self.seconds + 0.15

    def planned_s(self, case: Case) -> float:
        """What a case takes about, for the estimate of the time that is left."""
        named = [*case.servers, *(["nginx"] if case.servers[0] == "nginx" else [])]
        turns = sum(self.rounds if matters(case, name) else self.others for name in named)
        return turns * self.turn_s


@dataclass(frozen=True)
class Sample:
    """One turn of one server.

    Attributes:
        rate: Requests answered per second.
        cpu_us: User and system time of the whole process tree, microseconds a request.
        peak_mb: VmHWM, summed over the tree, in MiB; counted anew in each turn.
        failed: Requests that were not answered as they must be.
    """

    server: str
    round: int
    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    peak_mb: float
    failed: int = 0
    failures: str = ""


@dataclass(frozen=True)
class _Turn:
    """What is common to all requests of a turn.

    Attributes:
        number: Of the round; each server sees the same requests in it.
        bodies: Files with what is saved, by how it is sent.
        work: A folder for files that the load generator reads.
    """

    number: int
    seconds: float
    bodies: dict[str, Path]
    work: Path


def matters(case: Case, name: str) -> bool:
    """Whether a target is about this server; the others are there for comparison."""
    return name.startswith((case.base, OURS, *(target.server for target in case.targets)))


@contextlib.contextmanager
def running(team: Team, work: Path) -> Iterator[list[Server]]:
    """The servers of a team, all at once, holding the images that are read."""
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        folder = work / team
        found = [
            start(peers.nginx(folder / "nginx-off", nopush=False, workers=1 + (team == "two"))),
            start(peers.nginx(folder / "nginx-on", nopush=True, workers=1 + (team == "two"))),
        ]
        if team == "disk":
            found += [
                start(servers.stillroom(folder / "stillroom")),
                start(
                    servers.stillroom(
                        folder / "scratch",
                        name="not durable Stillroom",
                        variables={"STILLROOM_DURABILITY": "none"},
                    )
                ),
                start(peers.copyparty(folder / "copyparty")),
                start(peers.seaweedfs(folder / "seaweedfs")).filer,
                start(peers.reference(folder / "reference")),
                start(
                    peers.reference(
                        folder / "durable-reference",
                        name="durable FastAPI",
                        variables={"REFERENCE_DURABLE": "yes"},
                    )
                ),
            ]
        elif team == "many":
            found += _with_many_tokens(stack, folder)
        elif team == "proxy":
            for name in (BYTES_FROM_NGINX, BEHIND_NGINX):
                below = folder / name.replace(" ", "-")
                found.append(start(peers.behind_nginx(below, name, sends=name == BYTES_FROM_NGINX)))
        elif team == "two":
            found.append(start(servers.stillroom(folder / "stillroom", workers=2)))
        else:
            found += _before_bucket(stack, folder)
        corpora = make_corpora(work.with_name("corpora"), CORPORA) if team == "many" else None
        for server in found:
            if corpora:
                link_corpora(corpora, server)
            elif team != "bucket":
                fill(server)
            elif not server.name.startswith("nginx"):
                server.save("get/known.png", image_bytes(4096))
        yield found


def _with_many_tokens(stack: contextlib.ExitStack, folder: Path) -> list[Server]:
    kinds = {
        OURS: {},
        COLD: {"STILLROOM_RESPONSE_CACHE_BYTES": "0"},
        ASGI: {"STILLROOM_FAST_PATH": "false"},
        NEWER: {},
    }
    found = []
    for name, variables in kinds.items():
        program = PYTHON_313 if name == NEWER else servers.STILLROOM
        if program.exists():
            running = servers.stillroom(
                folder / name.replace(" ", "-"),
                name=name,
                variables={"STILLROOM_JWT_SECRET": SECRET, **variables},
                program=program,
            )
            found.append(stack.enter_context(running))
    return found


def _before_bucket(stack: contextlib.ExitStack, folder: Path) -> list[Server]:
    import boto3  # installed by `make bench`; our tests run other teams without it

    seaweed = stack.enter_context(peers.seaweedfs(folder / "seaweedfs", core=LOAD_CORE))
    variables = seaweed.variables
    boto3.client(
        "s3",
        endpoint_url=variables["R2_ENDPOINT_URL"],
        aws_access_key_id=peers.KEY_ID,
        aws_secret_access_key=peers.KEY,
        region_name="auto",
    ).create_bucket(Bucket=peers.BUCKET)
    images = f"http://127.0.0.1:{seaweed.filer.port}/buckets/{peers.BUCKET}/compute"
    found = [
        stack.enter_context(
            servers.stillroom(
                folder / "cdn",
                name="Stillroom, CDN",
                variables={"R2_PUBLIC_URL": servers.CDN, **variables},
            )
        ),
        stack.enter_context(
            servers.stillroom(
                folder / "presigned", name="Stillroom, presigned URL", variables=variables
            )
        ),
        stack.enter_context(
            peers.reference(folder / "reference", name="FastAPI and boto3", variables=variables)
        ),
    ]
    return [server.at(images) for server in found]


def fill(server: Server) -> None:
    """Save the images that are read."""
    server.make_folder("get")
    for path, size in IMAGES.items():
        server.save(path, image_bytes(size))


def measure(
    case: Case, team: list[Server], pace: Pace, work: Path, progress: Progress
) -> list[Sample]:
    """All rounds of a case."""
    taking_part = [server for server in team if server.name.startswith(case.servers)]
    size = next((one.size for one in (case, case.beside) if one and one.method == "POST"), 0)
    bodies = write_bodies(work / "bodies", size) if size else {}
    samples: list[Sample] = []
    for number in range(-1, pace.rounds):  # round -1 warms up
        shift = number % len(taking_part)
        for server in taking_part[shift:] + taking_part[:shift]:
            if number >= pace.others and not matters(case, server.name):
                continue
            seconds = pace.seconds
            if number < 0:
                seconds = 4 * pace.seconds if case.mix else _WARM_UP_S
            sample = _sample(case, server, _Turn(number, seconds, bodies, work))
            if number >= 0:
                samples.append(sample)
                progress.advance(case.name, pace.turn_s)
    return samples


def _sample(case: Case, server: Server, turn: _Turn) -> Sample:
    order = _order(case, server, turn)
    if case.method != "POST":
        _check(case, server, order)
    folder = _upload_folder(case, turn)
    if turn.bodies:
        server.make_folder(folder)
    load = wrk if case.method == "GET" and not turn.bodies else pump
    load_cores = cores(LOAD_CORE) if case.team != "two" else cores(SERVER_CORE, LOAD_CORE)
    for pid in server.pids:
        forget_peak(pid)
    before = sum(map(cpu_seconds, server.pids))
    seen = load(order, load_cores)
    used = sum(map(cpu_seconds, server.pids)) - before
    peak = sum(map(peak_bytes, server.pids))
    if turn.bodies:
        server.clear(folder)
    if not seen.answered and turn.seconds < _LONGEST_S:  # 0.3 s of 10 MB on a busy machine
        return _sample(case, server, dataclasses.replace(turn, seconds=turn.seconds * 4))
    return Sample(
        server=server.name,
        round=turn.number,
        rate=seen.answered / seen.seconds,
        cpu_us=used / max(seen.answered, 1) * 1e6,
        p50_ms=seen.p50_ms,
        p99_ms=seen.p99_ms,
        peak_mb=peak / MIB,
        failed=seen.failed,
        failures=seen.failures,
    )


def _upload_folder(case: Case, turn: _Turn) -> str:
    """A new one for each turn: a server may remember which folders it has synced."""
    return f"up-{case.slug}-{turn.number}"


def _order(case: Case, server: Server, turn: _Turn) -> Order:
    order = _own_order(case, server, turn)
    if case.beside is None:
        return order
    beside = dataclasses.replace(case.beside, slug=case.slug)
    return dataclasses.replace(
        order,
        share=1 - case.beside_share,
        beside=_own_order(beside, server, turn),
    )


def _own_order(case: Case, server: Server, turn: _Turn) -> Order:
    fields = {} if case.mix else {**server.fields, **case.fields}
    target = server.prefix + case.path
    if case.known:
        fields["If-None-Match"] = _etag(server, target)
    if case.method != "POST":
        return Order(
            server.port,
            case.method,
            target,
            fields,
            case.connections,
            turn.seconds,
            [case.status],
            traffic=traffic_of(case.mix, turn.number, turn.work) if case.mix else None,
        )
    if server.upload == "form":
        fields["Content-Type"] = f"multipart/form-data; boundary={_BOUNDARY}"
    return Order(
        server.port,
        "POST" if server.upload == "form" else "PUT",
        f"{server.prefix}{_upload_folder(case, turn)}/{case.path}",
        fields,
        case.connections,
        turn.seconds,
        list(SAVED),
        str(turn.bodies[server.upload]),
    )


def _check(case: Case, server: Server, order: Order) -> None:
    """One request by another client: what is counted later must be the right answer."""
    target, fields = order.target, order.fields
    if order.traffic:
        path, head = next(drawn(order.traffic))
        target = target.replace("{path}", path)
        fields = dict(line.split(": ") for line in head.split("\t"))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(case.method, target, headers=fields)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != case.status or (case.size and len(body) != case.size):
        raise RuntimeError(
            f"{server.name} answers {case.name} with {answer.status} and {len(body)} bytes"
        )


def _etag(server: Server, target: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("HEAD", target, headers=server.fields)
    etag = connection.getresponse().headers["ETag"]
    connection.close()
    return str(etag)


def write_bodies(folder: Path, size: int) -> dict[str, Path]:
    """Files with what is sent to save an image of `size` bytes, as it is and as a form."""
    folder.mkdir(exist_ok=True)
    found = {"put": folder / f"{size}.put", "form": folder / f"{size}.form"}
    if not found["form"].exists():
        image = image_bytes(size)
        found["put"].write_bytes(image)
        disposition = b'Content-Disposition: form-data; name="file"; filename="a.png"'
        with found["form"].open("wb") as file:
            file.write(b"--%s\r\n%s\r\n" % (_BOUNDARY.encode(), disposition))
            file.write(b"Content-Type: image/png\r\n\r\n" + image)
            file.write(b"\r\n--%s--\r\n" % _BOUNDARY.encode())
    return found
