"""A deletion, as a reader at the edge sees it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from purge.conftest import Edge
from purge.serving import Site
from services.faulty_proxy import Exchange
from waiting import until, until_equal

pytestmark = pytest.mark.slow


def cached(site: Site, key: str) -> bytes:
    """Read an object twice, so that the edge has it, and return what the edge has."""
    first, second = site.api.read(key), site.api.read(key)
    assert (first.status_code, second.headers["x-cache"]) == (200, "HIT")
    return second.content


def test_a_deleted_resource_is_purged_at_once_and_again(site: Site) -> None:
    image = site.save("a/cat.png")
    resource = site.ingest("a/cat.png")
    key = resource["storage_key"]
    assert cached(site, key) == image
    assert site.api.read(key).headers["cache-control"] == "public, max-age=86400, immutable"

    assert site.delete(resource).status_code == 200
    site.until_purged(key)

    assert site.api.read(key).status_code == 404
    # The row is written after the response of the CDN.
    (row,) = until(
        lambda: [row for row in site.queued() if row.url.endswith(key) and row.is_repeat]
    )
    assert (
        50 < (row.due_at.replace(tzinfo=None) - row.created_at.replace(tzinfo=None)).seconds < 900
    )
    site.hurry()
    site.until_purged(key, times=2)
    until_equal(site.queued, [])  # the row is deleted after the response


def test_a_reader_that_fills_the_cache_during_the_deletion_does_not_bring_the_image_back(
    site: Site, edge: Edge
) -> None:
    image = site.save("a/cat.png")
    resource = site.ingest("a/cat.png")
    key, has_bytes, may_answer = resource["storage_key"], threading.Event(), threading.Event()

    def hold(exchange: Exchange) -> None:
        """Read the bytes before the deletion, and pass them on after the purge."""
        answer = exchange.carry_out()
        has_bytes.set()
        assert may_answer.wait(120)
        exchange.send(answer.head + answer.body)

    edge.origin.choose = lambda exchange: hold if exchange.key == key else None
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(site.api.read, key)
        assert has_bytes.wait(60)
        site.delete(resource)
        site.until_purged(key)
        edge.origin.choose = lambda _: None
        may_answer.set()
        assert reader.result().content == image
    stale = site.api.read(key)
    assert (stale.content, stale.headers["x-cache"]) == (image, "HIT"), "this is what can happen"

    site.hurry()
    site.until_purged(key, times=2)

    assert site.api.read(key).status_code == 404
    assert image not in httpx.get(f"{site.api.edge}/{key}", timeout=60).content
