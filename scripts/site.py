"""Build the documentation site into site/, with a search and the reference of the SDK.

The pages of docs/ and of the top folder are copied into one tree, because the generator follows no
link out of its source folder. Links are rewritten, and words are added to the search. The build is
strict: a link or an anchor that leads nowhere ends it with an error.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / ".make/site"
"""Copies of the pages, which are written anew by each build."""

PROJECT: Final = "project"
"""Folder on the site for the pages of the top folder, except README.md, which begins the site."""

SDK: Final = "reference/sdk.md"

OTHER_NAMES: Final = {
    "api.html": {
        "Tokens": "API key, authentication",
        "Thumbnails": "thumbnail, resize images",
        "Signed URLs": "presigned URL",
    },
    "contents.html": {"I use a server, and want to …": "webhook"},
    "observing.html": {"The log": "logging, log level"},
    "running.html": {"Behind a proxy": "rate limit, rate limiting"},
}
"""Words that people search for, by the page of the site and the section that answers them."""

DIAGRAMS: Final = ROOT / "node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js"
"""Script that draws the diagrams. The theme loads it from another host if a page has none."""

STYLE: Final = ROOT / "scripts/site.css"

UNSEARCHED: Final = ("docs/adr/*", "docs/proofs.md", "docs/performance.md", "CHANGELOG.md")
"""Pages that are read by following a link. In the search they would hide those for users."""

_LINK: Final = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\]\([^)]*\))*\]\()([^)\s]+)(\))")
_INNER: Final = re.compile(r"(!\[[^\]]*\]\()([^)\s]+)(\))")
_EXTERNAL: Final = re.compile(r"[a-z]+:|#")
_FENCE: Final = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)

_SDK_PAGE: Final = """# SDK

This page lists the names of `stillroom.client`, `stillroom.embed` and `stillroom.local`.
[The SDK](../sdk.md) explains them with examples. `AsyncImageStore` has the methods of `ImageStore`,
to be awaited.

::: stillroom.client.ImageStore
::: stillroom.client.library.MediaLibrary
::: stillroom.client.runs.Run
::: stillroom.client.values
::: stillroom.wire.generation.Generation
::: stillroom.client.encoding.from_float
::: stillroom.errors
::: stillroom.embed
::: stillroom.local
"""


def copy_pages() -> None:
    """Write the pages to `SOURCE`, with links that stay inside of it."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    docs = ROOT / "docs"
    for file in sorted(docs.rglob("*")):
        if file.is_file():
            _write(file, place_of(file))
    for file in sorted(ROOT.glob("*.md")):
        _write(file, place_of(file))
    (SOURCE / SDK).write_text(_SDK_PAGE)
    for file in (DIAGRAMS, STYLE):
        shutil.copyfile(file, SOURCE / file.name)


def place_of(file: Path) -> Path:
    """Return the place on the site of a file in the repository, relative to `SOURCE`."""
    inside = file.relative_to(ROOT)
    if inside.parts[0] == "docs":
        return Path(*inside.parts[1:]) if inside.name != "README.md" else Path("contents.md")
    return Path("index.md") if inside == Path("README.md") else Path(PROJECT) / inside


def _write(file: Path, place: Path) -> None:
    target = SOURCE / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".md":
        text = rewritten(file.read_text(), file)
        target.write_text(_excluded(_with_diagrams(text, place), file))
    else:
        shutil.copyfile(file, target)


def _with_diagrams(text: str, place: Path) -> str:
    if "```mermaid\n" not in text:
        return text
    script = os.path.relpath(DIAGRAMS.name, place.parent)
    return f'{text}\n<script src="{script}"></script>\n'


def _excluded(text: str, file: Path) -> str:
    is_searched = not any(file.relative_to(ROOT).match(pattern) for pattern in UNSEARCHED)
    return text if is_searched else f"---\nsearch:\n  exclude: true\n---\n\n{text}"


def rewritten(text: str, file: Path) -> str:
    """Return the text of a page, with links to other files as they are on the site."""
    parts = _FENCE.split(text)
    for number in range(0, len(parts), 2):  # the others are code
        parts[number] = _LINK.sub(lambda link: _moved(link, file), parts[number])
    return "".join(parts)


def _moved(link: re.Match[str], file: Path) -> str:
    before, target, after = link.groups()
    before = _INNER.sub(lambda inner: _moved(inner, file), before)
    if _EXTERNAL.match(target):
        return f"{before}{target}{after}"
    name, hash_sign, anchor = target.partition("#")
    place = _place(file.parent / name)
    if place is None:  # a file that is not documentation, such as the licence
        return re.sub(r"^\[(.*)\]\($", r"\1", before)
    relative = os.path.relpath(place, place_of(file).parent)
    return f"{before}{relative}{hash_sign}{anchor}{after}"


def _place(target: Path) -> Path | None:
    found = Path(os.path.normpath(target))
    if found == ROOT / "docs/adr":
        return Path("adr/0001-fastapi-and-uvicorn.md")
    is_page = found.is_relative_to(ROOT / "docs") or (
        found.parent == ROOT and found.suffix == ".md"
    )
    return place_of(found) if is_page else None


def add_other_names() -> None:
    """Add `OTHER_NAMES` to the index of the search. Words in titles count most."""
    file = ROOT / "site/search.json"
    index = json.loads(file.read_text())
    sections = {(one["location"].partition("#")[0], one["title"]): one for one in index["items"]}
    for page, of_page in OTHER_NAMES.items():
        for title, names in of_page.items():
            if (page, title) not in sections:
                sys.exit(f"{page} has no section {title!r} any more: correct scripts/site.py")
            section = sections[page, title]
            section["title"] = f"{title} ({names})"
            section["text"] = f"<p>Other names: {names}.</p> {section['text']}"
    file.write_text(json.dumps(index, ensure_ascii=False))


def main() -> int:
    """Build the site. Return the exit code of the generator."""
    copy_pages()
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603  (our own words)
    if built.returncode == 0:
        add_other_names()
    return built.returncode


if __name__ == "__main__":
    sys.exit(main())
