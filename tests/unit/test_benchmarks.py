"""The arithmetic of the benchmarks: a wrong ratio would be believed."""

import dataclasses
import io
import itertools
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.cases import Case, Corpus, Mix, Target
from benchmarks.event_tables import OURS, PEERS, VARIANTS, Cost, Delivered, costs_table, peers_table
from benchmarks.listing import Listed, Shape
from benchmarks.load import parsed
from benchmarks.measure import Sample
from benchmarks.plot import svg
from benchmarks.processes import cpu_seconds
from benchmarks.pump import drawn
from benchmarks.report import (
    Judged,
    Results,
    in_short,
    judge,
    listings,
    markdown,
    with_sentence,
)
from benchmarks.thumbnails import KINDS, Kind, Rate, photograph, table
from benchmarks.traffic import traffic_of

CASE = Case("get", "GET 4 KB", "disk", "GET", "a.png", 4096, targets=(Target(0.5, 0.5),))


def sample(server: str, number: int, rate: float, cpu_us: float) -> Sample:
    return Sample(server, number, rate, cpu_us, p50_ms=1.0, p99_ms=2.0, peak_mb=10.0)


def judged(samples: list[Sample], case: Case = CASE) -> Judged:
    """Ours beside the only target."""
    (found,) = judge(case, samples).judged
    return found


def rounds(*figures: tuple[float, float, float, float]) -> list[Sample]:
    """Rate and CPU of nginx, then of ours, round by round."""
    return [
        made
        for number, (rate, cpu, our_rate, our_cpu) in enumerate(figures)
        for made in (
            sample("nginx", number, rate, cpu),
            sample("Stillroom", number, our_rate, our_cpu),
        )
    ]


def test_a_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    # The median of ours (300) by that of nginx (200) would be 1.5.
    verdict = judge(CASE, rounds((100, 10, 50, 40), (200, 10, 300, 20), (1000, 10, 600, 10)))

    nginx, ours = verdict.rows
    assert ours.rate == 300
    assert ours.rate_ratio == 0.6
    assert ours.cpu_ratio == 0.5
    assert nginx.rate_ratio == 1.0


def test_each_figure_is_compared_with_the_better_of_nginxs_two_settings() -> None:
    samples = [
        sample("nginx, tcp_nopush on", 0, 200, 40),
        sample("nginx, tcp_nopush off", 0, 100, 10),
        sample("Stillroom", 0, 100, 20),
    ]

    ours = judged(samples).row

    assert (ours.rate_ratio, ours.cpu_ratio) == (0.5, 0.5)


def test_less_than_the_target_is_missed_and_exactly_the_target_is_met() -> None:
    exactly = judged(rounds((100, 10, 50, 20)))
    less = judged(rounds((100, 10, 49, 21)))

    assert (exactly.rate_met, exactly.cpu_met) == (True, True)
    assert (less.rate_met, less.cpu_met) == (False, False)


def test_whoever_fails_a_request_meets_no_target() -> None:
    nginx, ours = rounds((100, 10, 100, 10))

    verdict = judge(CASE, [nginx, dataclasses.replace(ours, failed=1, failures="1 x 500")])

    (found,) = verdict.judged
    assert (found.rate_met, found.cpu_met) == (False, False)
    assert "Stillroom: 1 requests failed (1 x 500)" in markdown(
        Results([verdict], [], [], [], "a command", 1, 1, load=0.1)
    )


def test_a_target_for_p99_is_met_from_below() -> None:
    nginx, ours = rounds((100, 10, 100, 10))
    case = dataclasses.replace(CASE, targets=(Target(p99=1.5),))

    met = judged([nginx, dataclasses.replace(ours, p99_ms=3.0)], case)
    missed = judged([nginx, dataclasses.replace(ours, p99_ms=3.2)], case)

    assert (met.p99_met, missed.p99_met, met.rate_met) == (True, False, None)


def test_a_server_of_another_kind_has_a_target_and_a_line_of_its_own() -> None:
    nginx, ours = rounds((100, 10, 100, 10))
    case = dataclasses.replace(
        CASE, targets=(Target(0.95), Target(0.75, server="cold Stillroom"), Target(server="none"))
    )
    cold = dataclasses.replace(ours, server="cold Stillroom", rate=70)

    verdict = judge(case, [nginx, ours, cold])

    page = markdown(Results([verdict], [], [], [], "a command", 1, 1, load=0.1))
    assert [one.rate_met for one in verdict.judged] == [True, False]
    assert "| GET 4 KB: cold | nginx | 0.70 | 0.75 **missed** |" in page


def test_the_sentence_of_real_traffic_stands_in_the_page_and_is_replaced() -> None:
    case = dataclasses.replace(CASE, slug="many-zipf")

    sentence = in_short([judge(case, rounds((100, 10, 50, 20)))])
    page = with_sentence("a <!-- make bench: -->\n  old <!-- . -->\nb", sentence)

    assert page == f"a <!-- make bench: -->\n  {sentence} <!-- . -->\nb"
    assert sentence.endswith("**0.50** by Zipf's law with 500 tokens.")
    assert with_sentence(page, sentence) == page
    assert in_short([judge(CASE, rounds((100, 10, 50, 20)))]) == ""


def test_zipf_draws_what_is_popular_more_often_and_each_server_is_asked_the_same(
    tmp_path: Path,
) -> None:
    corpus = Corpus("small", 10, ((1, 1, 1),))
    traffic = traffic_of(Mix(corpus, exponent=1.0, tokens=3, agents=2), 7, tmp_path)

    requests = list(itertools.islice(drawn(traffic), 3000))

    paths = Counter(path for path, _ in requests)
    first, tenth = paths["small/0/0.png"], paths["small/9/9.png"]
    assert first / tenth == pytest.approx(10, rel=0.5)
    assert len({head for _, head in requests}) == 6
    assert requests == list(itertools.islice(drawn(traffic), 3000))


def test_each_image_has_its_turn_without_a_law(tmp_path: Path) -> None:
    traffic = traffic_of(Mix(Corpus("small", 10, ((1, 1, 1),)), exponent=None), 7, tmp_path)

    paths = [path for path, _ in itertools.islice(drawn(traffic), 20)]

    assert len(set(paths[:10])) == 10
    assert paths[:10] == paths[10:]


def test_a_server_that_sat_out_a_round_is_compared_within_those_it_ran_in() -> None:
    samples = [*rounds((100, 10, 50, 20), (400, 10, 50, 20)), sample("copyparty", 0, 10, 100)]

    rows = {row.server: row for row in judge(CASE, samples).rows}

    assert rows["copyparty"].rate_ratio == 0.1


@pytest.mark.parametrize(
    ("refused", "expected", "failed"), [(0, False, 0), (3, False, 3), (100, True, 0), (97, True, 3)]
)
def test_what_wrk_calls_an_error_is_counted_by_what_the_case_expects(
    refused: int, expected: bool, failed: int
) -> None:
    printed = (
        "Running 1h test\n\n"
        f'{{"requests": 100, "refused": {refused}, "broken": 2, "seconds": 0.5, '
        '"p50_ms": 1, "p99_ms": 1.25}\n'
    )

    seen = parsed(printed, refusals_expected=expected)

    assert (seen.answered, seen.failed) == (100 - failed, failed + 2)
    assert (seen.seconds, seen.p99_ms) == (0.5, 1.25)


def test_the_picture_has_a_pair_of_bars_and_targets_for_each_case() -> None:
    picture = svg([judge(CASE, rounds((100, 10, 50, 20)))] * 3)

    assert picture.count('<rect class="rate"') == picture.count('<rect class="cpu"') == 4
    assert picture.count('<line class="target"') == 7


@pytest.mark.parametrize("kind", ["flat", "nested"])
def test_a_corpus_has_as_many_different_images_as_it_says(kind: str) -> None:
    shape = Shape(kind, 1000)  # type: ignore[arg-type]  # parametrize knows no literals

    assert len(set(shape.images())) == 1000


def test_listings_of_a_million_are_judged_and_smaller_ones_are_not() -> None:
    large, small = (
        Listed(Shape("flat", count), "first page", "Stillroom", 0.7, 0.0009, 0.0011, 1.0)
        for count in (1_000_000, 1000)
    )

    judged, unjudged = listings([large]), listings([small])

    assert "| 700.00 (< 600 **missed**) | 0.90 (< 1 met) | 1.10 (< 1 **missed**) |" in judged
    assert "| 700.00 | 0.90 | 1.10 |" in unjudged


@pytest.mark.parametrize("page", Shape("nested", 1000).pages())
def test_a_save_touches_a_folder_that_its_page_has_read(page: str) -> None:
    shape = Shape("nested", 1000)

    prefix = re.findall("prefix=([^&]+)", shape.pages()[page])[0]

    assert shape.saved(page, 1).startswith(prefix)
    assert shape.saved(page, 1) not in set(shape.images())


def test_the_clock_of_another_process_counts_its_work_and_that_of_its_ended_children() -> None:
    work = "sum(range(10**7))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{work}'])"
    started = subprocess.Popen(
        [sys.executable, "-c", f"{child}; {work}; print('done', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with started:
        assert started.stdout is not None
        started.stdout.readline()
        counted = cpu_seconds(started.pid)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started.communicate(b"\n")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)

    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert counted == pytest.approx(used, abs=0.1)


def test_the_table_of_thumbnails_has_ours_its_ratios_and_what_is_kept() -> None:
    rate = Rate("PNG", {"Stillroom": 30.0, "Pillow": 40.0}, {"Pillow": 0.75, "libvips": 1.5}, 2000)

    assert table([rate]).splitlines()[2:] == ["| PNG | 30.0 | 0.75 | 1.50 | 2000 |"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.form)
def test_the_photographs_of_thumbnails_are_of_their_kind(kind: Kind) -> None:
    small = dataclasses.replace(kind, size=(320, 240))  # seconds go into the size of the real ones

    image = Image.open(io.BytesIO(photograph(small)))

    assert (image.format, image.size) == (kind.form, small.size)
    assert image.convert("L").getextrema() != (0, 0)


def test_the_table_of_events_has_ratios_to_each_peer_within_a_round() -> None:
    seaweed, plain = PEERS
    rounds = [
        [
            Delivered(OURS, rate, 500.0, 0, [10.0 * at for at in range(101)], 0),
            Delivered(seaweed, 100.0, 500.0, 1, [5.0] * 101, 2),
            Delivered(plain, 400.0, 500.0, 0, [0.0] * 101, 0),
        ]
        for rate in (200.0, 300.0, 100.0)
    ]

    ours, _, last, to_seaweed, to_plain = peers_table(rounds)[2:]

    assert ours == "| Stillroom | 200 | 500 | 990 | 0 |"
    assert last == "| plain FastAPI | 400 | 0 | 0 | 0 |"
    assert peers_table(rounds)[3].endswith("| 9 |")
    assert to_seaweed == "| ratio to SeaweedFS filer | 2.00 | 100.00 | 198.00 | |"
    assert to_plain == "| ratio to plain FastAPI | 0.50 | 0.00 | 0.00 | |"


def test_the_table_of_costs_has_ratios_to_saves_without_events() -> None:
    off, *others = VARIANTS
    rounds = [
        [Cost(off, cpu, 100.0), *(Cost(name, 110.0, 98.0) for name in others)]
        for cpu in (100.0, 55.0, 220.0)
    ]

    rows = costs_table(rounds)[2:]

    assert rows[0] == "| events off | 100 | 1.00 | 100 | 1.00 |"
    assert rows[3] == "| a webhook that hangs | 110 | 1.10 | 98 | 0.98 |"
