"""The words of docs/glossary.md are used, and those that it replaces are not."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).relative_to(ROOT)

PLACES = [
    "src", "docs", "deploy", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md",
    "SECURITY.md", "Makefile", "pyproject.toml",
]  # fmt: skip

BANNED = {
    "whoever": "name the caller, client, process or operator",
    "somebody": "name the caller, client, process or operator",
    "nobody": "say that it does not happen, or what does it instead",
    "anybody": "say `any client`, or `without a token`",
    "roads?": "path",
    "smaller pictures?": "thumbnail",
    "not a valid one": "missing or invalid token",
    "that no token has": "the token contains invalid characters",
    r"\d there already|saved, \d": "0 uploaded, 1 unchanged",
    "see whether the server runs": "Is the server running?",
    "brought from": "schema migrated to 0009",
    "(?:what|and) hangs over": "crops",
    "shines through": "transparency",
    "of these that says something": "the first of these",
    "fail alike": "fail for the same reason",
    "twice is once": "harmless; returns 200 and the same manifest",
    "the earlier end counts": "the earliest expiration applies",
    "empty is the top": "Leave empty for the top level.",
    "begin anew": "resume, or start over",
    "look(?:s|ed|ing)? after": "maintain",
    "looking works": "listing works",
    "is not a valid (?:integer|boolean|string)": "must be an integer",
}

TEXTS = {".py", ".md", ".js", ".html", ".css", ".json", ".yml", ".toml", ".conf", ".service", ""}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """What is tracked, and read by people."""
    listed = subprocess.run(
        ["git", "ls-files", *PLACES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [name for name in listed.stdout.split("\n") if name]
    found = {name: ROOT / name for name in names if Path(name).suffix in TEXTS}
    return {name: path.read_text() for name, path in found.items() if path.exists()}


@pytest.mark.parametrize("word", BANNED)
def test_a_banned_word_is_nowhere(word: str, texts: dict[str, str]) -> None:
    written = re.compile(rf"\b{word}\b", re.IGNORECASE)

    lines = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if written.search(line)
    ]

    assert lines == [], BANNED[word]


def test_at_the_prompt_means_the_command_line_nowhere() -> None:
    """A prompt is what an image was made of."""
    written = "(^|[^a-z])at[ _](a|the|your)[ _]prompt"
    searched = ["git", "grep", "-niE", written, "--", f":!{HERE}"]
    found = subprocess.run(searched, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout) == (1, "")


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("cli", "# Command line"),
        ("recipes", "# Recipes"),
        ("migration", "# Migrating"),
        ("upgrading", "# Upgrading"),
        ("observing", "# Monitoring and logs"),
        ("reference/settings", "# Configuration"),
        ("generation", "# Generation metadata"),
        ("api", "## Thumbnails"),
    ],
)
def test_a_page_has_the_title_that_readers_look_for(page: str, title: str) -> None:
    assert title in (ROOT / f"docs/{page}.md").read_text().splitlines()


@pytest.mark.parametrize("page", ["gallery", "runs", "retention", "media"])
def test_the_last_section_of_a_page_of_rules_has_their_limits(page: str) -> None:
    sections = re.findall(r"^## (.+)$", (ROOT / f"docs/{page}.md").read_text(), re.MULTILINE)

    assert sections[-1] == "Limits"


@pytest.mark.parametrize(
    "word",
    ["thumbnail", "logging", "log level", "rate limit", "resize", "webhook", "API key"],
)
def test_a_word_that_readers_look_for_leads_somewhere(word: str) -> None:
    table = (ROOT / "docs/README.md").read_text()

    rows = [row for row in table.splitlines() if word.lower() in row.lower()]

    assert any("](" in row for row in rows)


FROM_AN_INDEX = re.compile(
    r"""\b(?:pip|pipx|uv|poetry|pdm)[ ]           # an installer,
    (?:tool[ ]|pip[ ])?(?:install|add|run)[ ]    # its command,
    (?:-\S+[ ])*["']?                            # flags,
    stillroom(?:\[\w+\])?+["']?+(?![\w/-]|[ ]@)  # and a name that no place follows
    |--with[ ]["']?stillroom\b|uvx[ ]stillroom\b""",
    re.VERBOSE,
)


def test_no_text_says_that_an_index_has_stillroom(texts: dict[str, str]) -> None:
    """Until one does: a checkout, a wheel file or git, as docs/installing.md says."""
    assert FROM_AN_INDEX.search("pip install --upgrade 'stillroom[server]'")
    assert FROM_AN_INDEX.search("run `pip install stillroom`")
    assert FROM_AN_INDEX.search("pipx install stillroom\n")
    assert not FROM_AN_INDEX.search("pip install 'stillroom[server] @ git+URL'")
    assert not FROM_AN_INDEX.search("pip install dist/stillroom-*.whl")

    assert [name for name, text in texts.items() if FROM_AN_INDEX.search(text)] == []


def test_each_term_names_a_file_that_exists() -> None:
    rows = re.findall(r"^\| \*\*.+?\*\* \| .+ \| `(.+?)` \|$", _glossary(), re.MULTILINE)

    assert len(rows) > 30
    assert [row for row in rows if not (ROOT / "src" / "stillroom" / row).exists()] == []


def test_each_term_stands_once_and_in_order() -> None:
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", _glossary(), re.MULTILINE)

    assert terms == sorted(set(terms), key=str.casefold)


def _glossary() -> str:
    return (ROOT / "docs" / "glossary.md").read_text()
