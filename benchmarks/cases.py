"""What is measured, and the targets."""

import dataclasses
from dataclasses import dataclass, field
from typing import Final, Literal

KIB: Final = 1024
MIB: Final = 1024**2

Team = Literal["many", "proxy", "disk", "bucket", "two"]
TEAMS: Final[tuple[Team, ...]] = ("many", "proxy", "disk", "bucket", "two")

OURS: Final = "Stillroom"
COLD: Final = "cold-cache Stillroom"
ASGI: Final = "ASGI-path Stillroom"
NEWER: Final = "Python 3.13 Stillroom"
BYTES_FROM_NGINX: Final = "Stillroom, bytes from nginx"
BEHIND_NGINX: Final = "Stillroom, copied by nginx"


@dataclass(frozen=True)
class Target:
    """What a server should reach, as ratios to the base.

    Attributes:
        rate: Its requests per second by the base's, at least.
        cpu: The base's CPU time per request by its, at least.
        p99: Its p99 by the base's, at most.
        server: What its name begins with.
    """

    rate: float | None = None
    cpu: float | None = None
    p99: float | None = None
    server: str = OURS


@dataclass(frozen=True)
class Corpus:
    """Images that are read beside each other, spread over many folders.

    Attributes:
        count: Of paths.
        sizes: Smallest and largest size in bytes, and how often it occurs beside the others.
        distinct: Of files; paths beyond that are further names of theirs.
    """

    name: str
    count: int
    sizes: tuple[tuple[int, int, float], ...]
    distinct: int = 0


@dataclass(frozen=True)
class Mix:
    """Which images are asked for, and by whom.

    Attributes:
        corpus: The images.
        exponent: Of Zipf's law, 0 for all alike, None for each in its turn.
        tokens: Different ones, each in as many requests.
        agents: The same of user agents.
    """

    corpus: Corpus
    exponent: float | None = 0
    tokens: int = 1
    agents: int = 1


@dataclass(frozen=True)
class Case:
    """One kind of request, sent to several servers in turn.

    Attributes:
        slug: For `--only`, which takes any part of it.
        name: For people.
        team: Which servers run beside each other.
        method: GET or HEAD of `path`, or POST: an upload, by PUT where the server has that.
        path: Of the image. `{n}` is another number in each request, `{path}` one of the mix.
        size: Of the image, in bytes.
        status: What each server must answer to it; saves have statuses of their own.
        known: Whether requests carry the image's ETag in If-None-Match.
        mix: Of many images, in place of one.
        beside: A case of the same team whose requests are sent on the same connections, and
            whose share of all requests is `beside_share`; percentiles are without them.
        base: What the names of the servers begin with that ratios are taken to.
        servers: What the names of all servers begin with that take part.
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
    servers: tuple[str, ...] = ("nginx", OURS)
    targets: tuple[Target, ...] = (Target(),)
    mix: Mix | None = None
    beside: "Case | None" = None
    beside_share: float = 0


_ALL: Final = ("nginx", OURS, "copyparty", "SeaweedFS", "plain FastAPI")
_PLAIN: Final = ("nginx", OURS, "plain FastAPI")
_SAVERS: Final = (
    "nginx, tcp_nopush off",  # an answer to PUT has nothing that it could push
    "not durable Stillroom",
    *_ALL[1:],
    "durable FastAPI",
)

IMAGES: Final = {
    "get/4k.png": 4 * KIB,
    "get/100k.png": 100 * KIB,
    "get/1m.png": MIB,
    "get/10m.png": 10 * MIB,
}
"""The images that are read, by path."""


_BESIDE: Final = ("nginx", OURS)


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
        targets=(Target(rate, cpu),),
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
        targets=(Target(rate, cpu),),
    )


def _proxied(size: str, name: str, rate: float, connections: int = 32) -> Case:
    """Through nginx with and without STILLROOM_SENDFILE, beside nginx that serves alone."""
    get = _get(size, name, 0, 0, connections)
    return dataclasses.replace(
        get,
        slug=f"proxy-get-{size}",
        name=f"GET {name} through nginx",
        team="proxy",
        servers=_BESIDE,
        targets=(Target(rate, server=BYTES_FROM_NGINX), Target(server=BEHIND_NGINX)),
    )


def _proxied_save(size: int, name: str) -> Case:
    post = _post(size, name, 0, 0)
    return dataclasses.replace(
        post,
        slug=f"proxy-{post.slug}",
        name=f"POST {name} through nginx",
        team="proxy",
        servers=("nginx, tcp_nopush off", BEHIND_NGINX),
        targets=(Target(server=BEHIND_NGINX),),
    )


SMALL: Final = Corpus("small", 6000, ((4 * KIB, 4 * KIB, 1),))
MIXED: Final = Corpus(
    "mixed",
    2000,
    ((4 * KIB, 30 * KIB, 0.5), (100 * KIB, 300 * KIB, 0.3), (MIB, 2 * MIB, 0.2)),
)
NEW: Final = Corpus("new", 24_000, SMALL.sizes, distinct=SMALL.count)
"""More than a response cache holds: each one is asked for when it has long been forgotten."""

CORPORA: Final = (SMALL, MIXED, NEW)


_SERVED: Final = ("nginx", OURS, COLD, ASGI, NEWER)


def _many(
    slug: str,
    name: str,
    mix: Mix,
    *targets: Target,
    connections: int = 32,
    servers: tuple[str, ...] = _SERVED,
) -> Case:
    return Case(
        f"many-{slug}",
        name,
        "many",
        "GET",
        "{path}",
        0,
        connections=connections,
        servers=servers,
        targets=targets or (Target(),),
        mix=mix,
    )


_CROWD: Final = Mix(SMALL, 0.9, tokens=500, agents=4)
_READS: Final = _many("reads", "reads of 4 KB beside saves", _CROWD, servers=_BESIDE)
_SAVES: Final = Case(
    "many-saves", "saves of 100 KB beside reads", "many", "POST", "{n}.png", 100 * KIB
)

_REAL: Final = (
    _many("uniform", "GET, 6,000 images of 4 KB alike, 1 token", Mix(SMALL),
          Target(0.95, 0.90), Target(0.75, 0.75, server=COLD)),
    _many("zipf", "GET, 6,000 images of 4 KB by Zipf, 500 tokens", _CROWD,
          Target(0.95, 0.95), Target(0.70, 0.70, server=COLD)),
    _many("mixed", "GET, 4 KB to 2 MB by Zipf, 500 tokens", Mix(MIXED, 0.9, tokens=500, agents=4),
          Target(1.0, 0.75, 1.5)),
    _many("wide", "the same alike, 256 connections", Mix(MIXED, 0, tokens=500, agents=4),
          Target(0.95, 0.60, 1.2), connections=256),
    _many("new", "GET, 24,000 images of 4 KB in turn, 1 token", Mix(NEW, None), servers=_BESIDE),
    *(
        _many(f"kept-{number}", f"GET, 4 KB by Zipf, 500 tokens, {number:,} connections", _CROWD,
              connections=number, servers=_BESIDE)
        for number in (16, 128, 1024)
    ),
    dataclasses.replace(_READS, name="80 % reads of 4 KB, 20 % saves of 100 KB: the reads",
                        beside=_SAVES, beside_share=0.2),
    dataclasses.replace(_SAVES, name="80 % reads of 4 KB, 20 % saves of 100 KB: the saves",
                        beside=_READS, beside_share=0.8),
)  # fmt: skip
"""What readers really ask for: many images, many tokens, small images beside large ones."""

CASES: Final = (
    *_REAL,
    _proxied("4k", "4 KB", 0.50),
    _proxied("100k", "100 KB", 0.40),
    _proxied("1m", "1 MB", 0.75),
    _proxied("10m", "10 MB", 0.95, connections=8),
    _proxied_save(100 * KIB, "100 KB"),
    _proxied_save(MIB, "1 MB"),
    _get("4k", "4 KB", 0.75, 0.75),
    _get("100k", "100 KB", 1.0, 0.90),
    _get("1m", "1 MB", 1.3, 0.75),
    _get("10m", "10 MB", 1.0, 0.65, connections=8),
    Case(
        "get-range", "GET with Range, 100 KB of 1 MB", "disk", "GET", "get/1m.png", 100 * KIB, 206,
        fields={"Range": f"bytes=500000-{500_000 + 100 * KIB - 1}"},
        servers=_PLAIN, targets=(Target(0.70, 0.70),),
    ),
    Case("head", "HEAD of 100 KB", "disk", "HEAD", "get/100k.png", 0,
         servers=_PLAIN, targets=(Target(0.70, 0.75),)),
    Case("get-304", "GET, not modified: 304", "disk", "GET", "get/100k.png", 0, 304, known=True,
         targets=(Target(0.70, 0.75),)),
    Case("get-404", "GET of a missing image: 404", "disk", "GET", "get/missing.png", 0, 404,
         servers=_PLAIN, targets=(Target(0.70, 0.75),)),
    _post(100 * KIB, "100 KB", 0.50, 0.40),
    _post(MIB, "1 MB", 0.65, 0.45),
    _post(20 * MIB, "20 MB", 0.85, 0.55, connections=4),
    Case("bucket-302", "GET, known in the bucket: 302", "bucket", "GET", "get/known.png", 0, 302,
         servers=("nginx", OURS, "FastAPI and boto3"), targets=(Target(0.70, 0.75),)),
    Case("bucket-post-100k", "POST 100 KB to a bucket", "bucket", "POST", "{n}.png", 100 * KIB,
         connections=16, base="FastAPI and boto3", servers=("Stillroom, CDN", "FastAPI and boto3"),
         targets=(Target(1.5, 4),)),
    Case("two-get-4k", "GET 4 KB, two workers", "two", "GET", "get/4k.png", 4 * KIB),
    Case("two-get-100k", "GET 100 KB, two workers", "two", "GET", "get/100k.png", 100 * KIB),
    Case("two-post-100k", "POST 100 KB, two workers", "two", "POST", "{n}.png", 100 * KIB,
         connections=8, servers=("nginx, tcp_nopush off", OURS)),
)  # fmt: skip
"""Targets from measurements of prototypes beside nginx 1.26 on a machine of two cores."""
