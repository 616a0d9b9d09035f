"""What the commands have in common: the options of those that ask a server, JSON, and help."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from command_line import ran
from stillroom.cli.main import commands

NEEDS_A_SERVER = (
    "put", "get", "sync", "ls", "show", "cat", "du", "cp", "mv", "rm", "url", "unmarked",
    "runs ls", "runs show", "runs publish", "runs rm", "media ls", "media show", "media tag",
    "media heal",
)  # fmt: skip


@pytest.mark.parametrize("command", NEEDS_A_SERVER)
def test_each_command_that_asks_a_server_has_its_options(command: str) -> None:
    found = commands
    for word in command.split():
        found = found.commands[word]  # type: ignore[assignment]  # groups, then a command

    options = {name for option in found.params for name in option.opts}

    assert {"--url", "--token", "--profile"} <= options


def _commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_each_command_that_answers_something_answers_in_json() -> None:
    flags = {
        name: {one for option in command.params for one in option.opts}
        for name, command in _commands(commands)
    }

    without = {name for name, options in flags.items() if "--json" not in options}
    trash = {"trash empty"}  # it prints nothing on standard output
    assert without == {"serve", "token", "cat", "profiles set", "profiles rm"} | trash


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search --seed abc", "--seed must be an integer from 0 to 18446744073709551615"),
        ("search --limit -1", "--limit must be an integer of at least 0"),
        ("put -j 99 a b", "--concurrency must be an integer from 1 to 64"),
        ("serve --port x", "--port must be an integer"),
        ("media orphans --most-percent x", "--most-percent must be a number from 0 to 100"),
        ("put a.png", "SOURCES and TARGET are needed"),
        ("search fox -snow", "No such option '-s'. Put -- before a word that begins with a dash."),
        ("search --sort x", "--sort must be one of -saved, saved, -path, path"),
        ("search --from never", "--from must be a time such as 2026-12-01"),
        ("search --type png", "--type must be a content type such as image/png"),
        ("media tag x --remove", "--remove requires at least one TAG"),
        ("token --prefix=", "--prefix: the path has an empty segment"),
        ("token --expires soon", "--expires: 'soon' is not a duration such as 90s"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_explained(
    tmp_path: Path, words: str, said: str
) -> None:
    refused = ran(tmp_path, tuple(words.split()), {})

    assert refused.code == 2
    assert f"\nError: {said}" in refused.err


def test_the_help_of_a_group_says_what_each_command_does_without_dots() -> None:
    groups = [*_groups(commands)]
    assert len(groups) > 5
    for group in groups:
        helped = CliRunner().invoke(group, ["--help"]).output
        assert "..." not in helped.partition("Commands:")[2], helped
        for name in group.commands:
            assert f"  {name}  " in helped


def _groups(group: click.Group) -> Iterator[click.Group]:
    yield group
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from _groups(command)
