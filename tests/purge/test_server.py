"""A server that purges: failures, dead letters, metrics, and changes below `compute/`."""

import json
from pathlib import Path

import pytest

from command_line import ran
from purge.cloudflare import Failure
from purge.conftest import Edge
from purge.serving import Site, started
from running import IMAGES
from services.seaweedfs import bucket_variables
from stillroom.features.database.engine import migrating
from stillroom.features.purge.tables import purges
from waiting import until

pytestmark = pytest.mark.slow

LETTERS = "/api/v1/media-dead-letters"


def test_a_purge_that_was_given_up_is_retried_by_an_operator(site: Site, edge: Edge) -> None:
    refusals = iter([Failure(500), Failure(429), Failure(429, {"retry-after": "1"})])
    site.api.fail = lambda: next(refusals, Failure(500))
    site.save("a/cat.png")
    resource = site.ingest("a/cat.png")
    key = resource["storage_key"]
    site.api.read(key)
    site.delete(resource)

    def give_up() -> bool:
        with migrating(site.rows) as connection:
            connection.execute(purges.update().values(attempts=11))
        site.hurry()
        return bool(site.client.get(LETTERS).json())

    until(give_up, by=site.server.process, said=site.server.logged)
    (letter,) = site.client.get(LETTERS).json()
    assert (letter["kind"], letter["storage_key"]) == ("purge", None)
    assert letter["payload"] == {"url": f"{site.api.edge}/{key}"}
    assert letter["last_error"] == "the response has the status 500"
    assert "gave up purging 1 URLs" in site.server.logged()
    metrics = site.client.get("/metrics").text
    assert 'stillroom_purge_requests_total{outcome="failed"}' in metrics
    assert site.api.read(key).status_code == 200, "the edge still has it"

    variables = {**bucket_variables(edge.seaweed), **site.api.variables}
    variables |= {"STILLROOM_DATA_DIR": str(site.server.data), "STILLROOM_JWT_SECRET": "s" * 32}
    folder = site.server.data.parent
    listed = ran(folder, ("media", "dead-letters", "ls", "--json"), variables)
    assert json.loads(listed.out)["url"].endswith(key)
    site.api.fail = lambda: None
    retried = ran(folder, ("media", "dead-letters", "retry", "--all"), variables)
    assert (retried.code, key in retried.out) == (0, True), retried

    site.until_purged(key)
    assert site.api.read(key).status_code == 404
    assert site.client.get(LETTERS).json() == []


def test_requests_have_at_most_a_hundred_urls_and_a_foreign_host_spoils_no_others(
    edge: Edge, tmp_path: Path
) -> None:
    with started(tmp_path, edge.seaweed, edge.api, R2_PURGE_HOSTS="other.example") as site:
        resources = []
        for number in range(3):
            site.save(f"a/{number}.png")
            resources.append(site.ingest(f"a/{number}.png"))
        for resource in resources:
            assert site.delete(resource).status_code == 200
        for resource in resources:
            site.until_purged(resource["storage_key"])

        until(lambda: edge.api.statuses[400] >= 1, by=site.server.process, said=site.server.logged)
        assert edge.api.largest <= 3
        until(lambda: [row for row in site.queued() if row.attempts], said=site.server.logged)
        failed = {row.url.partition("/media")[0] for row in site.queued() if row.attempts}
        assert failed == {"http://other.example"}
    edge.seaweed.empty()


def test_by_default_changes_below_compute_are_not_purged(site: Site) -> None:
    site.save("a/cat.png")
    site.client.delete(f"{IMAGES}/a/cat.png").raise_for_status()
    site.save("a/dog.png")
    resource = site.ingest("a/dog.png")
    site.delete(resource)
    site.until_purged(resource["storage_key"])

    assert all("/compute/" not in url for url in site.api.purged)


def test_with_all_deletions_and_replacements_below_compute_are_purged(
    edge: Edge, tmp_path: Path
) -> None:
    with started(tmp_path, edge.seaweed, edge.api, R2_PURGE="all") as site:
        first = site.save("a/cat.png")
        assert [site.api.read("compute/a/cat.png").content for _ in range(2)] == [first] * 2

        second = site.save("a/cat.png")
        until(
            lambda: site.api.read("compute/a/cat.png").content == second,
            by=site.server.process, said=site.server.logged,
        )  # fmt: skip
        site.client.delete(f"{IMAGES}/a/cat.png").raise_for_status()
        until(
            lambda: site.api.read("compute/a/cat.png").status_code == 404,
            by=site.server.process, said=site.server.logged,
        )  # fmt: skip
    edge.seaweed.empty()
