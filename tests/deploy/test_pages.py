"""What the pages for operators tell them to type: files that exist, commands that there are."""

import re
import subprocess
from pathlib import Path

import click
import pytest

from stillroom.cli.main import commands

ROOT = Path(__file__).parents[2]
PAGES = ["deploying", "backup", "r2"]


def text_of(page: str) -> str:
    return (ROOT / f"docs/{page}.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_a_script_that_a_shell_can_read(page: str) -> None:
    blocks = re.findall(r"^( *)```(?:sh)?\n(.*?)^\1```$", text_of(page), re.DOTALL | re.MULTILINE)
    assert blocks
    for _, script in blocks:
        read = subprocess.run(
            ["bash", "-n"], input=script, capture_output=True, text=True, check=False
        )
        if "<account>" not in script:  # a placeholder, not a redirection
            assert (read.returncode, read.stderr) == (0, ""), script


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_ours_is_there(page: str) -> None:
    named = re.findall(r"(?<![\w/])((?:deploy|requirements|tests)/[\w./*-]*[\w*])", text_of(page))
    for name in named:
        assert list(ROOT.glob(name)), name
    if page == "deploying":
        assert len(named) > 5


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(page: str) -> None:
    code = re.findall(r"`([^`\n]+)`|^ *((?:stillroom|podman).*)$", text_of(page), re.MULTILINE)
    lines = [span or line for span, line in code]
    found = [match for line in lines for match in re.findall(r"\bstillroom(?:-run)? (.*)", line)]
    named = 0
    for words in (line.split() for line in found):
        group: click.Command = commands
        for word in words:
            if not isinstance(group, click.Group) or not re.fullmatch(r"[a-z][a-z-]*", word):
                break
            if word == "stillroom":
                continue
            assert word in group.commands, f"{page}: {' '.join(words)}"
            group, named = group.commands[word], named + 1
    assert named
