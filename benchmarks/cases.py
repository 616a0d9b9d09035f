"""What is measured, and the targets."""

from dataclasses import dataclass, field
from typing import Final, Literal

KIB: Final = 1024
MIB: Final = 1024**2

Team = Literal["disk", "bucket", "two"]
TEAMS: Final[tuple[Team, ...]] = ("disk", "bucket", "two")


@dataclass(frozen=True)
class Case:
    """One kind of request, sent to several servers in turn.

    Attributes:
        slug: For `--only`, which takes any part of it.
        name: For people.
        team: Which servers run beside each other.
        method: GET or HEAD of `path`, or POST: an upload, by PUT where the server has that.
        path: Of the image. `{n}` is another number in each request.
        size: Of the image, in bytes.
        status: What each server must answer to it; saves have statuses of their own.
        known: Whether requests carry the image's ETag in If-None-Match.
        base: What the names of the servers begin with that ratios are taken to.
        servers: What the names of all servers begin with that take part.
        rate: The target for requests per second, as a multiple of the base's.
        cpu: The target for the base's CPU time per request, divided by ours.
    """

    slug: str
    name: str
    team: Team
    method: Literal["GET", "HEAD", "POST"]
    path: str
    size: int
    status: int = 200
    fields: dict[str, str] = field(default_factory=dict)
    known: bool = False
    connections: int = 32
    base: str = "nginx"
    servers: tuple[str, ...] = ("nginx", "Stillroom")
    rate: float | None = None
    cpu: float | None = None


_ALL: Final = ("nginx", "Stillroom", "copyparty", "SeaweedFS", "plain FastAPI")
_PLAIN: Final = ("nginx", "Stillroom", "plain FastAPI")
_SAVERS: Final = (
    "nginx, tcp_nopush off",  # an answer to PUT has nothing that it could push
    "not durable Stillroom",
    *_ALL[1:],
)

MANY: Final = 10_000
"""Images that are read in turn: more than Stillroom keeps anything of."""

IMAGES: Final = {
    "get/4k.png": 4 * KIB,
    "get/100k.png": 100 * KIB,
    "get/1m.png": MIB,
    "get/10m.png": 10 * MIB,
}
"""The images that are read, by path."""


def _get(size: str, name: str, rate: float, cpu: float, connections: int = 32) -> Case:
    path = f"get/{size}.png"
    return Case(
        f"get-{size}",
        f"GET {name}, JWT checked",
        "disk",
        "GET",
        path,
        IMAGES[path],
        connections=connections,
        servers=_ALL,
        rate=rate,
        cpu=cpu,
    )


def _post(size: int, name: str, rate: float, cpu: float, connections: int = 8) -> Case:
    return Case(
        f"post-{name.replace(' ', '').lower()[:-1]}",
        f"POST {name}: JWT, SHA-256, durable",
        "disk",
        "POST",
        "{n}.png",
        size,
        connections=connections,
        servers=_SAVERS,
        rate=rate,
        cpu=cpu,
    )


CASES: Final = (
    _get("4k", "4 KB", 0.75, 0.75),
    Case("get-many", f"GET 4 KB, {MANY:,} images in turn", "disk", "GET", "many/{n}.png", 4 * KIB),
    _get("100k", "100 KB", 1.0, 0.90),
    _get("1m", "1 MB", 1.3, 0.75),
    _get("10m", "10 MB", 1.0, 0.65, connections=8),
    Case(
        "get-range", "GET with Range, 100 KB of 1 MB", "disk", "GET", "get/1m.png", 100 * KIB, 206,
        fields={"Range": f"bytes=500000-{500_000 + 100 * KIB - 1}"},
        servers=_PLAIN, rate=0.70, cpu=0.70,
    ),
    Case("head", "HEAD of 100 KB", "disk", "HEAD", "get/100k.png", 0,
         servers=_PLAIN, rate=0.70, cpu=0.75),
    Case("get-304", "GET, not modified: 304", "disk", "GET", "get/100k.png", 0, 304, known=True,
         rate=0.70, cpu=0.75),
    Case("get-404", "GET of a missing image: 404", "disk", "GET", "get/missing.png", 0, 404,
         servers=_PLAIN, rate=0.70, cpu=0.75),
    _post(100 * KIB, "100 KB", 0.50, 0.40),
    _post(MIB, "1 MB", 0.65, 0.45),
    _post(20 * MIB, "20 MB", 0.85, 0.55, connections=4),
    Case("bucket-302", "GET, known in the bucket: 302", "bucket", "GET", "get/known.png", 0, 302,
         servers=("nginx", "Stillroom", "FastAPI and boto3"), rate=0.70, cpu=0.75),
    Case("bucket-post-100k", "POST 100 KB to a bucket", "bucket", "POST", "{n}.png", 100 * KIB,
         connections=16, base="FastAPI and boto3", servers=("Stillroom, CDN", "FastAPI and boto3"),
         rate=1.5, cpu=4),
    Case("two-get-4k", "GET 4 KB, two workers", "two", "GET", "get/4k.png", 4 * KIB),
    Case("two-get-100k", "GET 100 KB, two workers", "two", "GET", "get/100k.png", 100 * KIB),
    Case("two-post-100k", "POST 100 KB, two workers", "two", "POST", "{n}.png", 100 * KIB,
         connections=8, servers=("nginx, tcp_nopush off", "Stillroom")),
)  # fmt: skip
"""Targets from measurements of prototypes beside nginx 1.26 on a machine of two cores."""
