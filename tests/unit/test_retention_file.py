"""`retention.toml` is read whole, or refused with the line that is wrong."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from stillroom.errors import ConfigurationError
from stillroom.features.retention.file import read_rules
from stillroom.features.retention.rules import COMPUTE_TTL, Rule, Rules

HOUR = timedelta(hours=1)

WHOLE = """\
# what this is for
[[rule]]
prefix = "previews/"
expire_after = "7d"

[[rule]]
prefix = ""
expire_after = 3600
unless_tagged = ["keep", "best"]

[[rule]]
prefix = "experiments/"
keep_last_runs = 20
unless_tagged = "keep"

[[rule]]
prefix = "previews/logo.png"
keep = true
"""


def read(tmp_path: Path, text: str | bytes) -> Rules:
    file = tmp_path / "retention.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_rules(file, is_named=False, compute_ttl=None)


def test_a_file_says_what_each_rule_is(tmp_path: Path) -> None:
    assert list(read(tmp_path, WHOLE)) == [
        Rule("rule 1", "previews/", expire_after=timedelta(days=7)),
        Rule("rule 2", "", expire_after=HOUR, unless_tagged=frozenset({"keep", "best"})),
        Rule("rule 3", "experiments/", keep_last_runs=20, unless_tagged=frozenset({"keep"})),
        Rule("rule 4", "previews/logo.png", keep=True),
    ]


def test_the_file_in_the_docs_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/retention.md").read_text()
    (shown,) = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)

    assert len(read(tmp_path, shown).rules) == 3


def test_without_a_file_there_is_the_setting_alone(tmp_path: Path) -> None:
    file = tmp_path / "none" / "retention.toml"

    assert list(read_rules(file, is_named=False, compute_ttl=None)) == []
    assert list(read_rules(file, is_named=False, compute_ttl=HOUR)) == [
        Rule(COMPUTE_TTL, "", expire_after=HOUR)
    ]
    with pytest.raises(ConfigurationError, match=r"retention\.toml': it cannot be read: No such"):
        read_rules(file, is_named=True, compute_ttl=HOUR)


FAULTS = {
    '[[rule]]\nprefix = "a"\nexpire_after = "7 days"': (3, "expire_after of rule 1 must be a dur"),
    '[[rule]]\nprefix = "a"\nexpire_after = 0': (3, "expire_after of rule 1 must be"),
    '[[rule]]\nprefix = "a"\nexpire_after = true': (3, "expire_after of rule 1 must be"),
    '[[rule]]\nprefix = "a"\nexpire_after = 1e3': (3, "expire_after of rule 1 must be"),
    '[[rule]]\nprefix = "a"\nexpire_after = 999999999999999999': (3, "ten years at most"),
    '[[rule]]\nprefix = "a"\nexpire_after = "999999999d"': (3, "ten years at most"),
    '[[rule]]\nprefix = "a"\nkeep_last_runs = 0': (3, "keep_last_runs of rule 1 must be a num"),
    '[[rule]]\nprefix = "a"\nkeep_last_runs = true': (3, "keep_last_runs of rule 1 must be"),
    '[[rule]]\nprefix = "a"\nkeep_last_runs = "3"': (3, "keep_last_runs of rule 1 must be"),
    '[[rule]]\nprefix = "/a"\nkeep = true': (2, "no image's path begins with the prefix of rule 1"),
    '[[rule]]\nprefix = "../"\nkeep = true': (2, "no image's path begins with"),
    "[[rule]]\nprefix = 3\nkeep = true": (2, "prefix of rule 1 must be a string"),
    '[[rule]]\nexpire_after = "7d"': (1, "rule 1 has no prefix"),
    '[[rule]]\nprefix = "a"': (1, "rule 1 has no effect: add expire_after"),
    '[[rule]]\nprefix = "a"\nunless_tagged = "b"': (1, "rule 1 has no effect"),
    '[[rule]]\nprefix = "a"\nkeep = false': (3, "keep of rule 1 can only be true"),
    '[[rule]]\nkeep = true\nprefix = "a"\nexpire_after = "7d"': (4, "remove expire_after"),
    '[[rule]]\nprefix = "a"\nexpire_after = "7d"\nunless_tagged = []': (4, "must be a tag"),
    '[[rule]]\nprefix = "a"\nexpire_after = "7d"\nunless_tagged = [3]': (4, "must be a tag"),
    '[[rule]]\nprefix = "a"\nexpire_after = "7d"\nunless_tagged = "-b"': (4, "of rule 1: a"),
    '[[rule]]\nprefix = "a"\nkeep = true\n\n[[rule]]\n# two\nprefx = "b"': (7, "rule 2 has"),
    '[[rule]]\nprefix = "a"\nexpire_after = ': (3, "invalid TOML"),
    '[[rule]]\nprefix = "a': (2, "invalid TOML"),
    '\n[[rules]]\nprefix = "a"': (2, "'rules' is unknown: use only [[rule]]"),
    'x = 1\n[[rule]]\nprefix = "a"': (1, "'x' is unknown"),
    '[rule]\nprefix = "a"': (1, "each rule must begin with [[rule]]"),
    "rule = [1]": (1, "each rule must begin with [[rule]]"),
    'rule = [{prefix = "a", keep = 2}]': (1, "keep of rule 1 can only be true"),
}


@pytest.mark.parametrize("text", FAULTS)
def test_the_line_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    line, said = FAULTS[text]

    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)

    assert f"retention.toml', line {line}: " in str(caught.value)
    assert said in str(caught.value)


def test_what_is_no_text_or_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"line 2: it is not UTF-8"):
        read(tmp_path, b"# fine\n# \xff")
    with pytest.raises(ConfigurationError, match=r"larger than 1048576 bytes"):
        read(tmp_path, "#" * 1024**2 + "\n")
    with pytest.raises(ConfigurationError, match=r"101 rules; at most 100"):
        read(tmp_path, '[[rule]]\nprefix = ""\nkeep = true\n' * 101)
    with pytest.raises(ConfigurationError, match=r"invalid TOML"):
        read(tmp_path, "x = " + "[" * 100_000)
    with pytest.raises(ConfigurationError, match=r"cannot be read: Is a directory"):
        read_rules(tmp_path, is_named=False, compute_ttl=None)


def test_only_what_a_rule_may_end_is_looked_through() -> None:
    rules = Rules(
        [
            Rule("rule 1", "b/", expire_after=HOUR),
            Rule("rule 2", "a", keep_last_runs=1),
            Rule("rule 3", "a/b/", expire_after=HOUR),
            Rule("rule 4", "", keep=True),
        ]
    )

    assert rules.prefixes == ["a", "b/"]
    assert Rules([*rules, Rule(COMPUTE_TTL, "", expire_after=HOUR)]).prefixes == [""]
