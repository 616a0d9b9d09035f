"""The pictures in ARCHITECTURE.md show the imports as they are, and files are short."""

import re
from collections.abc import Callable
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
MAP = ROOT / "ARCHITECTURE.md"


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Which room imports which, `TYPE_CHECKING` included."""
    return _imports(_room_of)


def _imports(name_of: Callable[[str], str]) -> dict[str, set[str]]:
    graph = grimp.build_graph("stillroom", cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        room = name_of(module)
        for imported in graph.find_modules_directly_imported_by(module):
            other = name_of(imported)
            if room and other and other != room:
                found.setdefault(room, set()).add(other)
    return found


def _room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def _feature_of(module: str) -> str:
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[1] == "features" else ""


def _reaches(imports: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = list(imports.get(start, ()))
    while waiting:
        room = waiting.pop()
        if room not in reached:
            reached.add(room)
            waiting.extend(imports.get(room, ()))
    return reached


def arrows_to_draw(imports: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The imports without those that follow from others: `a → c` beside `a → b → c`."""
    return {
        (room, other)
        for room, others in imports.items()
        for other in others
        if not any(other in _reaches(imports, via) for via in others - {other})
    }


@pytest.mark.parametrize(("index", "name_of"), [(0, _room_of), (1, _feature_of)])
def test_the_pictures_have_the_arrows_of_the_imports(
    index: int, name_of: Callable[[str], str]
) -> None:
    pictures = re.findall(r"```mermaid\n(.*?)```", MAP.read_text(), re.DOTALL)
    assert len(pictures) == 2, "ARCHITECTURE.md has pictures of the rooms and of the features"
    drawn = set(re.findall(r"^ *(\w+) --> (\w+)$", pictures[index], re.MULTILINE))

    wanted = arrows_to_draw(_imports(name_of))
    assert (wanted - drawn, drawn - wanted) == (set(), set())


def test_each_feature_is_described() -> None:
    folders = {path.parent.name for path in (ROOT / "src/stillroom/features").glob("*/__init__.py")}

    assert folders == set(re.findall(r"^\*\*(\w+)\*\*: ", MAP.read_text(), re.MULTILINE)) & folders


def test_each_room_has_a_row_in_the_table(imports: dict[str, set[str]]) -> None:
    rooms = set(imports) | {other for others in imports.values() for other in others}
    named = {
        name.removesuffix(".py")
        for name in re.findall(r"^\| `([\w.]+)` \|", MAP.read_text(), re.MULTILINE)
    }

    assert rooms - named == set()
    assert named - rooms == set()


def test_each_file_that_the_map_names_exists() -> None:
    source = ROOT / "src" / "stillroom"
    names = re.findall(r"`([a-z_0-9]+/[a-z_0-9/]+\.(?:py|js))`", MAP.read_text())

    assert names
    missing = [
        name for name in names if not (source / name).exists() and not (ROOT / name).exists()
    ]
    assert missing == []


@pytest.mark.parametrize(("pattern", "most"), [("*.py", 400), ("*.js", 300)])
def test_no_file_is_longer_than_a_reader_keeps_in_mind(pattern: str, most: int) -> None:
    lengths = {
        file.name: len(file.read_text(encoding="utf-8").splitlines())
        for file in (ROOT / "src/stillroom").rglob(pattern)
    }
    assert len(lengths) > 20
    assert {name: length for name, length in lengths.items() if length > most} == {}
