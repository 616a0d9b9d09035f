"""A test that fails by chance is shown, and ends a run of CI only with several others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.whole]  # it is of `.ci/run`

TESTS = Path(__file__).parents[1]
WITHOUT_PLUGINS = "-p no:schemathesis -p no:hypothesispytest -p no:anyio"
"""Importing these takes three quarters of a run, and there are up to four of them for each test."""
FAILS = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("name", {names})
def test_it(name):
    tries = Path(__file__).with_name(name)
    tries.write_text((tries.read_text() if tries.exists() else "") + ".")
    assert len(tries.read_text()) > {failures}
"""


def run(folder: Path, *options: str, names: str, failures: int) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = {WITHOUT_PLUGINS}\n")
    (folder / "test_by_chance.py").write_text(FAILS.format(names=list(names), failures=failures))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "repeating", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("processes", [(), ("-n", "2"), ("-n", "2", "--dist", "loadgroup")])
def test_a_test_that_passes_when_it_is_repeated_is_shown_as_flaky(
    tmp_path: Path, processes: tuple[str, ...], failures: int
) -> None:
    ran = run(tmp_path, "--repeat-failed=flaky", *processes, names="a", failures=failures)

    assert ran.returncode == 0, ran.stdout
    expected = f"FLAKY test_by_chance.py::test_it[a] (passed at try {failures + 1}; "
    assert expected in ran.stdout
    assert (tmp_path / "flaky").read_text().startswith(expected)
    assert len((tmp_path / "a").read_text()) == failures + 1


def test_a_test_that_fails_three_times_ends_the_run(tmp_path: Path) -> None:
    ran = run(tmp_path, "--repeat-failed=flaky", names="a", failures=3)

    assert ran.returncode == 1
    assert "1 failed, 0 of them passed when repeated" in ran.stdout
    assert (tmp_path / "a").read_text() == "..."


def test_more_than_three_flaky_tests_of_all_runs_end_the_run(tmp_path: Path) -> None:
    assert run(tmp_path, "--repeat-failed=flaky", names="abc", failures=1).returncode == 0
    assert run(tmp_path, "--repeat-failed=flaky", names="d", failures=1).returncode == 1
    assert len((tmp_path / "flaky").read_text().splitlines()) == 4


def test_nothing_is_repeated_unless_it_is_asked_for(tmp_path: Path) -> None:
    ran = run(tmp_path, names="a", failures=1)

    assert ran.returncode == 1
    assert (tmp_path / "a").read_text() == "."
