"""Select local files and stored images by name, folder or glob pattern."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import click

from stillroom.client import ImageStore
from stillroom.errors import ImageNotFound

_MAGIC: Final = re.compile(r"[*?\[]")


def files_to_put(sources: Iterable[str], target: str) -> dict[str, Path]:
    """Each path to save, and the file that goes there.

    Raises:
        click.UsageError: nothing there, or two files for one path.
    """
    found: list[tuple[Path, str]] = []
    for source in sources:
        found += _files_of(source)
    if not found:
        raise click.UsageError("there is no file to put: the folder is empty")
    only_file = len(found) == 1 and Path(found[0][0]).name == found[0][1]
    if only_file and target and not target.endswith("/"):
        return {target: found[0][0]}
    folder = f"{target.rstrip('/')}/" if target.strip("/") else ""
    planned: dict[str, Path] = {}
    for file, name in found:
        other = planned.setdefault(folder + name, file)
        if other != file:
            raise click.UsageError(f"both {other} and {file} would become {folder + name}")
    return planned


def _files_of(source: str) -> list[tuple[Path, str]]:
    """Files and their names below the target."""
    here = Path(source)
    if here.is_dir():
        return [(file, file.relative_to(here).as_posix()) for file in _below(here)]
    if here.exists():
        return [(here, here.name)]
    magic = _MAGIC.search(source)
    if magic is None:
        raise click.UsageError(f"no such file or folder: {source}")
    fixed = source[: source.rfind("/", 0, magic.start()) + 1]
    files = [Path(name) for name in sorted(glob.glob(source, recursive=True))]
    files = [file for file in files if file.is_file()]
    if not files:
        raise click.UsageError(f"nothing matches {source}")
    return [(file, os.path.relpath(file, fixed or ".")) for file in files]


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(root, name)
            if file.is_file():
                yield file


def images_to_get(store: ImageStore, sources: Iterable[str], target: Path) -> dict[str, Path]:
    """Each stored image, and the file that it becomes.

    Raises:
        ImageNotFound: nothing there under one of the names.
        click.UsageError: two images for one file.
    """
    wanted = [image for source in sources for image in _images_of(store, source)]
    into = target.is_dir() or str(target).endswith("/") or len(wanted) > 1
    into = into or any(path.rpartition("/")[2] != name for path, name in wanted)
    planned: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for path, name in wanted:
        file = Path(target, *name.split("/")) if into else target
        if taken.setdefault(file, path) != path:
            raise click.UsageError(f"both {taken[file]} and {path} would become {file}")
        planned[path] = file
    return planned


def images_named(store: ImageStore, source: str) -> list[str]:
    """The images that a name, a folder (`cats/`) or a pattern stands for.

    Raises:
        ImageNotFound: none.
    """
    return [path for path, _ in _images_of(store, source)]


def _images_of(store: ImageStore, source: str) -> list[tuple[str, str]]:
    """Paths, and their names below where they are fetched to."""
    magic = _MAGIC.search(source)
    if magic:
        prefix = source[: magic.start()]
        pattern = source.split("/")
        paths = [path for path in store.iter(prefix) if _matches(pattern, path.split("/"))]
        start = prefix.rfind("/") + 1
    elif not source.endswith("/") and source and store.exists(source):
        return [(source, source.rpartition("/")[2])]
    else:
        folder = f"{source.rstrip('/')}/" if source.strip("/") else ""
        paths, start = list(store.iter(folder)), len(folder)
    if not paths:
        error = ImageNotFound()
        error.args = (f"{source}: no such image or folder",)
        raise error
    return [(path, path[start:]) for path in paths]


def _matches(pattern: list[str], parts: list[str]) -> bool:
    """`*` stays within a segment, `**` crosses them, as in a shell with globstar."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(pattern[1:], parts[skipped:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(pattern[1:], parts[1:])
