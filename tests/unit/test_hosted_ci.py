"""The workflow for hosted services: known `make` targets, pinned actions, all Python versions."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text()


def test_the_workflow_calls_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set(re.findall(r"run: make ([a-z-]+)$", WORKFLOW, re.MULTILINE))

    assert called == {"check", "core", "test", "release-check"}
    assert called <= targets


def test_each_action_is_pinned_to_a_commit_and_names_its_version() -> None:
    actions = re.findall(r"uses: (.*)", WORKFLOW)

    assert actions
    pinned = re.compile(r"[a-z-]+/[a-z-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")
    assert [action for action in actions if not pinned.fullmatch(action)] == []


def test_the_workflow_runs_every_supported_python() -> None:
    pythons = re.search(r"^PYTHONS \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pythons is not None

    matrix = ", ".join(f'"{version}"' for version in pythons[1].split())
    assert f"python: [{matrix}]" in WORKFLOW
