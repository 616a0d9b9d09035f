"""`stillroom media recache`: objects get the present `Cache-Control`, and nothing else changes."""

from pathlib import Path

import pytest

from command_line import Ran, ran
from purge.conftest import Edge
from purge.serving import started
from services.faulty_proxy import Exchange, FaultyProxy, faulty_proxy
from services.proxy_faults import answers
from services.s3 import Operator
from services.seaweedfs import BUCKET, bucket_variables

pytestmark = pytest.mark.slow

YEAR = "public,max-age=31536000,immutable"
DAY = "public, max-age=86400, immutable"
CHANGED = ("date", "last-modified", "x-amz-request-id", "x-amz-meta-mtime", "cache-control")


def headers_of(operator: Operator, key: str) -> dict[str, str]:
    return dict(operator.send("HEAD", f"/{BUCKET}/{key}").headers)


def unchanged(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in CHANGED}


def recache(data: Path, way: FaultyProxy, edge: Edge, *flags: str) -> Ran:
    variables = {**bucket_variables(edge.seaweed), "R2_ENDPOINT_URL": way.endpoint_url}
    variables |= {"STILLROOM_DATA_DIR": str(data), "STILLROOM_JWT_SECRET": "s" * 32}
    return ran(data.parent, ("media", "recache", *flags), variables)


def copies(way: FaultyProxy) -> int:
    return way.operations["CopyObject"]


def test_each_object_is_copied_once_also_after_an_interruption(
    edge: Edge, operator: Operator, tmp_path: Path
) -> None:
    year = {"R2_MEDIA_CACHE_CONTROL": YEAR}
    with started(tmp_path, edge.seaweed, edge.api, **year) as site:
        images = {}
        for name in ("a", "b", "c"):
            image = site.save(f"x/{name}.png")
            images[str(site.ingest(f"x/{name}.png")["storage_key"])] = image
        site.save("x/in-place.png")
        site.ingest("x/in-place.png", relocate=False)
    before = {key: headers_of(operator, key) for key in images}
    assert {found["cache-control"] for found in before.values()} == {YEAR}
    refused = sorted(images)[1]

    def refuse_one(exchange: Exchange) -> object:
        is_copy = "x-amz-copy-source" in exchange.headers
        return answers(403, "AccessDenied") if is_copy and exchange.key == refused else None

    with faulty_proxy(edge.seaweed.endpoint_url) as way:
        way.choose = refuse_one  # type: ignore[assignment]
        first = recache(tmp_path / "data", way, edge)
        assert first.code == 1
        assert "2 rewritten, 1 unchanged, 1 failed" in first.err
        way.choose = lambda _: None
        way.operations.clear()
        second = recache(tmp_path / "data", way, edge)
        assert (second.code, copies(way)) == (0, 1), second.err
        assert "1 rewritten, 3 unchanged" in second.err
        way.operations.clear()
        third = recache(tmp_path / "data", way, edge, "--json")
        assert (third.code, copies(way)) == (0, 0)
        assert way.operations["HeadObject"] == 3, "one class B operation each"

    for key, image in images.items():
        after = headers_of(operator, key)
        assert after["cache-control"] == DAY
        assert unchanged(after) == unchanged(before[key])
        assert operator.send("GET", f"/{BUCKET}/{key}").content == image
    in_place = headers_of(operator, "compute/x/in-place.png")
    assert in_place["cache-control"] == "public, max-age=300"
    edge.seaweed.empty()


def test_a_deletion_during_a_copy_is_not_undone(
    edge: Edge, operator: Operator, tmp_path: Path
) -> None:
    """A bucket may write the copy of an object after the deletion of the object."""
    year = {"R2_MEDIA_CACHE_CONTROL": YEAR}
    with started(tmp_path, edge.seaweed, edge.api, **year) as site:
        image = site.save("x/a.png")
        resource = site.ingest("x/a.png")
        key = resource["storage_key"]

        def delete_and_copy(exchange: Exchange) -> None:
            exchange.receive()
            way.choose = lambda _: None
            assert site.delete(resource, "?now=true").status_code == 200
            fields = {"cache-control": DAY, "content-type": "image/png"}
            operator.send("PUT", f"/{BUCKET}/{key}", body=image, headers=fields)
            exchange.reset()

        with faulty_proxy(edge.seaweed.endpoint_url) as way:
            way.choose = lambda exchange: (
                delete_and_copy if "x-amz-copy-source" in exchange.headers else None
            )
            recache(tmp_path / "data", way, edge)

        assert operator.keys("media/") == []
    edge.seaweed.empty()


def test_a_disk_has_no_such_header(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "compute").mkdir(parents=True)
    done = ran(tmp_path, ("media", "recache"), {"STILLROOM_DATA_DIR": str(data)})

    assert done.code == 2
    assert "only objects in a bucket have this header" in done.err
