"""The benchmarks run: their smallest cases, for an instant, beside nginx."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.cases import CASES, SMALL, Case
from benchmarks.measure import Pace, fill, measure
from benchmarks.peers import nginx
from benchmarks.progress import Progress
from benchmarks.report import judge
from benchmarks.servers import SECRET, stillroom
from benchmarks.soak import WORKERS, Client
from benchmarks.traffic import link_corpora, make_corpora

pytestmark = pytest.mark.whole  # corpora of their own

INSTANT = Pace(rounds=2, seconds=0.2, others=0)
FEW = dataclasses.replace(SMALL, count=40, distinct=20)


@pytest.mark.parametrize("slug", ["head", "post-100k"])
def test_a_case_runs_beside_nginx_and_every_request_succeeds(slug: str, tmp_path: Path) -> None:
    (case,) = [case for case in CASES if case.slug == slug]
    with (
        nginx(tmp_path / "nginx", nopush=False) as peer,
        stillroom(tmp_path / "stillroom") as ours,
    ):
        for server in (peer, ours):
            fill(server)
        samples = measure(case, [peer, ours], INSTANT, tmp_path, Progress(4))

    assert [(sample.round, sample.server) for sample in samples] == [
        (0, peer.name),
        (0, ours.name),
        (1, ours.name),
        (1, peer.name),
    ]
    assert [sample.failures for sample in samples] == [""] * 4
    for row in judge(case, samples).rows:
        assert row.rate > 0
        assert row.cpu_us > 0
        assert row.peak_mb > 1
    saved = (tmp_path / "stillroom/compute").glob("up*/*")
    assert sum(file.stat().st_size for file in saved) == 0


@pytest.mark.parametrize("slug", ["many-zipf", "many-reads", "many-saves"])
def test_a_case_of_many_images_runs_and_every_request_succeeds(slug: str, tmp_path: Path) -> None:
    (case,) = [case for case in CASES if case.slug == slug]
    case = dataclasses.replace(_with_few(case), beside=case.beside and _with_few(case.beside))
    images = make_corpora(tmp_path / "corpora", [FEW])
    with (
        nginx(tmp_path / "nginx", nopush=False) as peer,
        stillroom(tmp_path / "stillroom", variables={"STILLROOM_JWT_SECRET": SECRET}) as ours,
    ):
        for server in (peer, ours):
            link_corpora(images, server)
        samples = measure(case, [peer, ours], INSTANT, tmp_path, Progress(4))

    assert [sample.failures for sample in samples] == [""] * 4
    assert all(sample.rate > 0 and 0 < sample.p50_ms <= sample.p99_ms for sample in samples)


def _with_few(case: Case) -> Case:
    return dataclasses.replace(case, mix=case.mix and dataclasses.replace(case.mix, corpus=FEW))


def test_a_server_takes_each_deed_of_the_soak(tmp_path: Path) -> None:
    with stillroom(tmp_path / "stillroom", workers=WORKERS) as server:
        client = Client(0, server.port, server.fields, seed=1)
        for _ in range(3):
            for deed in client.deeds:
                client.save()
                deed()
        client.close()

    assert client.unexpected == {}
