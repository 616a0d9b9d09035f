"""Docs are read in short sentences and short lines.

A sentence ends with `.`, `!` or `?` before a blank, or with its paragraph, list item or quotation;
a colon or a semicolon ends none. Tables, code and headings are no prose. A comma inside of code, of
a number (`1,000`) or between names in code (`a`, `b` and `c`) is none.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHANGELOG = ROOT / "CHANGELOG.md"
PAGES = [
    *(page for page in ROOT.glob("*.md") if page != CHANGELOG),
    *ROOT.glob("docs/**/*.md"),
]
MAX_COMMAS = 3
MAX_LINE_CHARACTERS = 120

_BLOCK = re.compile(r"^( *)```.*?^\1```$|^    \S.*?$|<!--.*?-->", re.DOTALL | re.MULTILINE)
_NO_PROSE = re.compile(r"^ *\||^#")
_ITEM = re.compile(r"^ *(?:[-*]|\d+\.|>) ")


def prose(page: Path) -> list[str]:
    """Its lines, with an empty one for each that is no prose."""
    text = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), page.read_text())
    return ["" if _NO_PROSE.match(line) else line for line in text.splitlines()]


def sentences(lines: list[str]) -> list[str]:
    """The sentences of some lines, with code and the targets of links left out."""
    paragraphs = [""]
    for line in lines:
        if not line.strip() or _ITEM.match(line):
            paragraphs.append("")
        paragraphs[-1] += _ITEM.sub("", line).strip() + " "
    found = []
    for paragraph in paragraphs:
        plain = re.sub(r"`[^`]+`", "`code`", paragraph)
        plain = re.sub(r"`code`(?:(?:,|,? and|,? or) `code`)+", "`code`", plain)
        plain = re.sub(r"\]\([^)]*\)", "]", plain)
        found += re.split(r"(?<=[.!?])[)*_\]\"”]*\s+", plain)
    return [sentence.strip() for sentence in found if sentence.strip()]


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("One, two. Three `a, b, c, d`?\nFour", ["One, two.", "Three `code`?", "Four"]),
        ("- a: b; c\n- d.\n\ne", ["a: b; c", "d.", "e"]),
        ("`a`, `b`, `c`, `d` and `e`, too", ["`code`, too"]),
        ("**Bold.** [A, link.](with, commas) Then", ["**Bold.", "[A, link.", "Then"]),
    ],
)
def test_prose_is_split_into_sentences(text: str, split: list[str]) -> None:
    assert sentences(text.splitlines()) == split


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_in_short_sentences_and_lines(page: Path) -> None:
    lines = prose(page)

    long_lines = [line for line in lines if len(line) > MAX_LINE_CHARACTERS]
    long_sentences = [
        sentence
        for sentence in sentences(lines)
        if len(re.findall(r",(?!\d{3})", sentence)) > MAX_COMMAS
    ]

    assert (long_lines, long_sentences) == ([], [])


def test_the_changelog_has_one_line_for_each_change() -> None:
    """A version begins with breaking changes, in bold; the first words name what has changed."""
    _, *versions = CHANGELOG.read_text().split("\n## ")
    for version in versions:
        lines = version.splitlines()[1:]
        changes = [line for line in lines if line.startswith("- ")]
        prose = [line for line in lines if line and not line.startswith(("- ", "#"))]
        assert [line for line in lines if len(line) > MAX_LINE_CHARACTERS] == []
        assert [line for line in prose if line.startswith(" ")] == [], "a change has one line"
        assert [line for line in changes if not re.match(r"- .{3,40}?: |- [A-Z]", line)] == []
        breaking = [line for line in changes if line.startswith("- **")]
        assert changes[: len(breaking)] == breaking
