"""Repeat failed tests, so that one that fails by chance is shown and does not end a run of CI.

`.ci/run` sets `--repeat-failed FILE`; `make test` repeats nothing. Each failed test is run again by
itself, in a process of its own, at most twice. If it passes then, it is flaky: its line is
printed, and added to the file. The run still fails if a test fails three times, or if the file then
has more than three lines. It may have lines of earlier runs, so that the limit is that of all.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

MOST_FLAKY: Final = 3
REPEATS: Final = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--repeat-failed",
        metavar="FILE",
        help="repeat failed tests, and add those that pass then to FILE, below the root",
    )


@pytest.hookimpl(trylast=True)  # when the processes of xdist have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    file = session.config.getoption("repeat_failed")
    # An interrupted run, or an error of pytest itself, is not made good.
    if file and session.exitstatus == pytest.ExitCode.TESTS_FAILED:
        terminal = session.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None and not hasattr(session.config, "workerinput"):
            _repeat(session, terminal, session.config.rootpath / file)


def _repeat(session: pytest.Session, terminal: pytest.TerminalReporter, file: Path) -> None:
    failed = {
        _without_group(session.config, report.nodeid)
        for outcome in ("failed", "error")
        for report in terminal.stats.get(outcome, [])
    }
    flaky = []
    for test in sorted(failed) if len(failed) <= MOST_FLAKY else ():
        passed_at = _first_pass(session, test)
        if passed_at is None:
            break
        flaky.append(f"FLAKY {test} (passed at try {passed_at + 1}; {_seed(session)})")
    with file.open("a+") as lines:
        lines.writelines(f"{line}\n" for line in flaky)
        lines.seek(0)
        in_all = len(lines.readlines())
    for line in flaky:
        terminal.write_line(line, yellow=True)
    if len(flaky) == len(failed) and in_all <= MOST_FLAKY:
        session.exitstatus = pytest.ExitCode.OK
    else:
        terminal.write_line(
            f"{len(failed)} failed, {len(flaky)} of them passed when repeated; "
            f"{in_all} of at most {MOST_FLAKY} flaky tests so far",
            red=True,
        )


def _first_pass(session: pytest.Session, test: str) -> int | None:
    for attempt in range(1, REPEATS + 1):
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
            cwd=session.config.rootpath,
            check=False,
        )
        if ran.returncode == pytest.ExitCode.OK:
            return attempt
    return None


def _without_group(config: pytest.Config, nodeid: str) -> str:
    """Remove what `--dist loadgroup` appends to a test's id."""
    is_grouped = config.getoption("dist", "no") == "loadgroup"
    return nodeid.rpartition("@")[0] if is_grouped and "@" in nodeid else nodeid


def _seed(session: pytest.Session) -> str:
    """Return the options that bring the order of this run again."""
    seed = session.config.getoption("random_order_seed", None)
    return f"--random-order-seed={seed}" if seed else "in the order of the files"
