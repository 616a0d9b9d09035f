"""Selection of local files and stored images by path, folder or glob pattern."""

import functools
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, TypeVar

import click

from stillroom.client import ImageStore
from stillroom.errors import ImageNotFound

S = TypeVar("S")
T = TypeVar("T")

_MAGIC: Final = re.compile(r"[*?\[]")

_ZIPPED_BY_NAME: Final = 1000
"""Maximum number of paths in a request for a ZIP file. A request for a folder has no maximum."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Filter for names, from the options `--include` and `--exclude`.

    A pattern is compared with the last segment of a path, or with the whole path if the pattern
    begins with a slash. `*` matches within a segment and `**` across segments. `cats/` matches
    everything in any folder with this name.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Return whether a name matches `--include` (if that is set) and not `--exclude`."""
        parts = name.split("/")
        is_included = not self.include or any(_fits(one, parts) for one in self.include)
        return is_included and not any(_fits(one, parts) for one in self.exclude)


def _fits(pattern: str, parts: list[str]) -> bool:
    wanted = (pattern if pattern.startswith("/") else f"/**/{pattern}")[1:].split("/")
    if wanted[-1] == "":
        wanted[-1:] = ["**", "*"]
    return _matches(wanted, parts)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--include` and `--exclude` to a command, which gets them as the filter `chosen`."""

    @functools.wraps(command)
    def run(*, include: tuple[str, ...], exclude: tuple[str, ...], **others: object) -> None:
        command(**others, chosen=Filter(include, exclude))

    filtered: Callable[..., None] = run
    for name in ("exclude", "include"):
        only = "Only names that match: '*.png', 'cats/', '/a/**'; repeat for several."
        text = only if name == "include" else "No names that match this pattern."
        filtered = click.option(f"--{name}", multiple=True, metavar="PATTERN", help=text)(filtered)
    return filtered


def folder_of(text: str) -> str:
    """Return the prefix of a folder: `cats/` for `cats` or `cats/`, and an empty text for `/`."""
    return f"{text.rstrip('/')}/" if text.strip("/") else ""


def no_such_image(source: str) -> ImageNotFound:
    """Return the error for a source that matches no image."""
    return ImageNotFound(f"{source}: no such image or folder")


def files_to_put(sources: Sequence[str], target: str, chosen: Filter) -> dict[str, Path]:
    """Return the files to upload, as a mapping from image path to local file."""
    found = [file for source in sources for file in _files_of(source)]
    if not found:
        raise click.UsageError("there is no file to save: the folder is empty")
    found = [(file, name) for file, name in found if chosen.takes(name)]
    if not found:
        raise click.UsageError("no file matches the filters --include and --exclude")
    is_one_file = [str(file) for file, _ in found] == [os.path.normpath(one) for one in sources]
    if is_one_file and len(found) == 1 and target and not target.endswith("/"):
        return {target: found[0][0]}
    folder = folder_of(target)
    return by_target((file, folder + name) for file, name in found)


def by_target(planned: Iterable[tuple[S, T]]) -> dict[T, S]:
    """Return the sources by their targets. Raise `UsageError` if two have the same target."""
    found: dict[T, S] = {}
    for source, target in planned:
        other = found.setdefault(target, source)
        if other != source:
            raise click.UsageError(
                f"{other} and {source} would have the same path {target}: rename one of them"
            )
    return found


def _files_of(source: str) -> list[tuple[Path, str]]:
    """Return each file with its path relative to the source, or to the fixed part of a pattern."""
    here = Path(source)
    if here.is_dir():
        return [(file, file.relative_to(here).as_posix()) for file in files_below(here)]
    if here.exists():
        return [(here, here.name)]
    magic = _MAGIC.search(source)
    if magic is None:
        raise click.UsageError(f"no such file or folder: {source}")
    fixed = source[: source.rfind("/", 0, magic.start()) + 1]
    files = list(filter(Path.is_file, map(Path, sorted(glob.glob(source, recursive=True)))))
    if not files:
        raise click.UsageError(f"no file matches the pattern {source}")
    return [(file, os.path.relpath(file, fixed or ".")) for file in files]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and its subfolders, sorted. Does not follow links to folders."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from filter(Path.is_file, (Path(root, name) for name in sorted(names)))


def images_to_get(
    store: ImageStore,
    sources: Sequence[str],
    target: Path,
    chosen: Filter,
    *,
    as_zip: bool,
) -> dict[str, Path]:
    """Return a local file for each image to download. `ImageNotFound`: a source has none."""
    wanted = _chosen(store, sources, chosen)
    into = target.is_dir() or str(target).endswith("/") or not _is_one_image(sources, wanted)
    if into and target.is_file() and not as_zip:
        raise click.UsageError(f"{target} is a file: pass a folder, or add --zip to replace it")
    planned = [(path, Path(target, *name.split("/")) if into else target) for path, name in wanted]
    by_target(planned)
    return dict(planned)


def images_to_zip(store: ImageStore, sources: Sequence[str], chosen: Filter) -> str | list[str]:
    """Return a folder's prefix, or a list of paths. `ImageNotFound`: a source has none."""
    source = sources[0]
    is_whole = len(sources) == 1 and chosen == Filter() and not _MAGIC.search(source)
    if is_whole and (source.endswith("/") or not store.exists(source)):
        return folder_of(source)
    paths = list(dict.fromkeys(path for path, _ in _chosen(store, sources, chosen)))
    if len(paths) > _ZIPPED_BY_NAME:
        raise click.UsageError(
            f"a ZIP of selected images can contain at most {_ZIPPED_BY_NAME:,} images, but "
            f"{len(paths):,} are selected: pass one folder without a filter, or omit --zip"
        )
    return paths


def images_to_copy(
    store: ImageStore, sources: Sequence[str], target: str, chosen: Filter
) -> dict[str, str]:
    """Return a target path for each image to copy. `ImageNotFound`: a source has none."""
    wanted = _chosen(store, sources, chosen)
    into = target.endswith("/") or target == "" or not _is_one_image(sources, wanted)
    folder = folder_of(target)
    planned = [(path, folder + name if into else target) for path, name in wanted]
    for path, there in planned:
        if there == path:
            raise click.UsageError(f"{path}: source and target are the same")
    by_target(planned)
    return dict(planned)


def _chosen(store: ImageStore, sources: Sequence[str], chosen: Filter) -> list[tuple[str, str]]:
    found = [image for source in sources for image in images_of(store, source)]
    wanted = [(path, name) for path, name in found if chosen.takes(name)]
    if not wanted:
        raise click.UsageError("no image matches the filters --include and --exclude")
    return wanted


def _is_one_image(sources: Sequence[str], wanted: list[tuple[str, str]]) -> bool:
    return [path for path, _ in wanted] == list(sources) and len(wanted) == 1


def images_of(store: ImageStore, source: str) -> list[tuple[str, str]]:
    """Return each path twice: complete, and relative to the source or a pattern's fixed part.

    Raise `ImageNotFound` if no image matches.
    """
    magic = _MAGIC.search(source)
    if magic:
        prefix = source[: magic.start()]
        pattern = source.split("/")
        paths = [path for path in store.iter(prefix) if _matches(pattern, path.split("/"))]
        start = prefix.rfind("/") + 1
    elif not source.endswith("/") and source and store.exists(source):
        return [(source, source.rpartition("/")[2])]
    else:
        folder = folder_of(source)
        paths, start = list(store.iter(folder)), len(folder)
    if not paths:
        raise no_such_image(source)
    return [(path, path[start:]) for path in paths]


def _matches(pattern: list[str], parts: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(pattern[1:], parts[skipped:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(pattern[1:], parts[1:])
