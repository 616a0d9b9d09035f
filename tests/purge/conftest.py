"""A server, its bucket, an edge with a cache in front of the bucket, and the API of the edge."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from purge.cloudflare import Cloudflare, cloudflare
from purge.serving import Site, started
from services.faulty_proxy import FaultyProxy, faulty_proxy
from services.nginx import nginx_cdn
from services.seaweedfs import SeaweedFS


@dataclass
class Edge:
    """An edge in front of a bucket. `origin` is the way from the edge to the bucket."""

    api: Cloudflare
    origin: FaultyProxy
    seaweed: SeaweedFS


@pytest.fixture(scope="module")
def edge_services(
    seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, FaultyProxy]]:
    folder = tmp_path_factory.mktemp("edge")
    with (
        faulty_proxy(seaweed.endpoint_url) as origin,
        nginx_cdn(folder, origin.endpoint_url, keeps_404=False) as url,
    ):
        yield url, folder / "cache", origin


@pytest.fixture
def edge(edge_services: tuple[str, Path, FaultyProxy], seaweed: SeaweedFS) -> Iterator[Edge]:
    url, cache, origin = edge_services
    origin.choose = lambda _: None
    with cloudflare(url, cache) as api:
        yield Edge(api, origin, seaweed)


@pytest.fixture
def site(edge: Edge, tmp_path: Path) -> Iterator[Site]:
    """A running server with the default settings of purges."""
    with started(tmp_path, edge.seaweed, edge.api) as site:
        yield site
    edge.seaweed.empty()
