"""What pages say of settings, tests and other pages is compared with what is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.pasting import ROOT
from stillroom.settings import AllSettings

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_every_setting_has_its_row_and_its_meaning_in_one_table() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()

    row = r"^\| `(?:STILLROOM_|(?=R2_|CLOUDFLARE_))(\w+)` .*\| +(.*) +\|$"
    rows = re.findall(row, page, re.MULTILINE)

    assert {name for name, _ in rows} == {name.upper() for name in AllSettings.model_fields}
    assert [name for name, meaning in rows if not meaning] == []
    hosts = r"^\| `R2_PURGE_HOSTS` \| text, several separated by commas \| none \|"
    assert re.search(hosts, page, re.MULTILINE), "it has no default"
    tables = [
        page for page in PAGES if re.search(r"^\| Variable +\|", page.read_text(), re.MULTILINE)
    ]
    assert tables == [ROOT / "docs/reference/settings.md"]


def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "reference", tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        check=True,
    )
    for made in tmp_path.iterdir():
        written = (ROOT / "docs/reference" / made.name).read_text()
        assert written == made.read_text(), "it is stale: make reference"
    assert len(list(tmp_path.iterdir())) == len(list((ROOT / "docs/reference").iterdir())) == 3


@pytest.mark.parametrize("page", sorted(str(page.relative_to(ROOT)) for page in PAGES))
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            file = (ROOT / page).parent / name if name else ROOT / page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text()), target


def anchors(text: str) -> set[str]:
    """Those that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def test_every_test_that_a_page_names_exists() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", page.read_text()):
            assert f"def {name}(" in tests, f"{page.name}: {name}"


@pytest.mark.parametrize("page", ["security", "reliability"])
def test_each_section_of_promises_has_its_proofs(page: str) -> None:
    promised = re.findall(r"^## (.+)$", (ROOT / f"docs/{page}.md").read_text(), re.MULTILINE)
    proofs = (ROOT / "docs/proofs.md").read_text().partition(f"\n## {page.title()}\n")[2]
    proofs = proofs.partition("\n## ")[0]

    proved = [part.splitlines()[0] for part in proofs.split("\n### ")[1:] if "`test_" in part]

    assert proved == [section for section in promised if section != "What is yours"]


def test_every_page_is_found_by_task() -> None:
    found = (ROOT / "docs/README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert [name for name in sorted(pages) if f"]({name}" not in found] == []
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()
