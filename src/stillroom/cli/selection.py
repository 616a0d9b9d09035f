"""Selection of local files and stored images by path, folder or glob pattern."""

import contextlib
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
from stillroom.errors import Forbidden, ImageNotFound

S = TypeVar("S")
T = TypeVar("T")

_MAGIC: Final = re.compile(r"[*?\[]")

_ZIPPED_BY_NAME: Final = 1000
"""Maximum number of paths in a request for a ZIP file. A folder can contain any number."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Filter for names, from the options `--include` and `--exclude`.

    A pattern that begins with a slash must match the whole path. Others must match the path's end.
    `*` matches within a segment, `**` across segments. `cats/` matches all files in such folders.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Return whether a name matches `--include` (if that is set) and not `--exclude`."""
        parts = name.split("/")
        is_included = not self.include or any(_fits(pattern, parts) for pattern in self.include)
        return is_included and not any(_fits(pattern, parts) for pattern in self.exclude)


def _fits(pattern: str, parts: list[str]) -> bool:
    segments = (pattern if pattern.startswith("/") else f"/**/{pattern}")[1:].split("/")
    if segments[-1] == "":
        segments[-1:] = ["**", "*"]
    return _matches(segments, parts)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--include` and `--exclude` to a function. Its argument `chosen` is the filter."""

    @functools.wraps(command)
    def run(*, include: tuple[str, ...], exclude: tuple[str, ...], **others: object) -> None:
        command(**others, chosen=Filter(include, exclude))

    option = functools.partial(click.option, multiple=True, metavar="PATTERN")
    only = "Only names that match: '*.png', 'cats/', '/a/**'; repeat for several."
    excluding = option("--exclude", help="No names that match this pattern.")
    return option("--include", help=only)(excluding(run))


def folder_of(text: str) -> str:
    """Return the prefix of a folder: `cats/` for `cats` or `cats/`, and an empty text for `/`."""
    return f"{text.rstrip('/')}/" if text.strip("/") else ""


def no_such_image(source: str) -> ImageNotFound:
    """Return the error for a source that matches no image."""
    return ImageNotFound(f"{source}: no such image or folder")


def is_image(store: ImageStore, path: str) -> bool:
    """Return whether an image exists. A token for the folder `path` may not read this path."""
    with contextlib.suppress(Forbidden):
        return store.exists(path)
    return False


def files_to_put(sources: Sequence[str], target: str, chosen: Filter) -> dict[str, Path]:
    """Return the files to upload, as a mapping from image path to local file."""
    files = [file for source in sources for file in _files_of(source)]
    if not files:
        raise click.UsageError("there is no file to save: the folder is empty")
    files = [(file, name) for file, name in files if chosen.takes(name)]
    if not files:
        raise click.UsageError("no file matches the filters --include and --exclude")
    is_file = len(files) == 1 and [str(files[0][0])] == list(map(os.path.normpath, sources))
    if is_file and target and not target.endswith("/"):
        return {target: files[0][0]}
    return by_target((file, folder_of(target) + name) for file, name in files)


def by_target(planned: Iterable[tuple[S, T]]) -> dict[T, S]:
    """Map targets to sources. Raise `UsageError` if two sources have the same target."""
    sources: dict[T, S] = {}
    for source, target in planned:
        other = sources.setdefault(target, source)
        if other != source:
            raise click.UsageError(
                f"{other} and {source} would have the same path {target}: rename one of them"
            )
    return sources


def _files_of(source: str) -> list[tuple[Path, str]]:
    """Return the local files that match a source, each with its path relative to the source."""
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
    """Yield all files in a folder and its subfolders, sorted. Links to folders are skipped."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from filter(Path.is_file, (Path(root, name) for name in sorted(names)))


def images_to_get(
    store: ImageStore, sources: Sequence[str], target: Path, chosen: Filter, *, as_zip: bool
) -> dict[str, Path]:
    """Map the path of each image to the file to write, or raise `ImageNotFound` if none matches."""
    images, is_one_image = _chosen(store, sources, chosen)
    into = target.is_dir() or str(target).endswith("/") or not is_one_image
    if into and target.is_file() and not as_zip:
        raise click.UsageError(f"{target} is a file: pass a folder, or add --zip to replace it")
    planned = {path: Path(target, *name.split("/")) if into else target for path, name in images}
    by_target(planned.items())
    return planned


def images_to_zip(store: ImageStore, sources: Sequence[str], chosen: Filter) -> str | list[str]:
    """Return the folder or the paths to request as a ZIP. Raise `ImageNotFound` if none exist."""
    source = sources[0]
    is_whole = len(sources) == 1 and chosen == Filter() and not _MAGIC.search(source)
    if is_whole and (source.endswith("/") or not is_image(store, source)):
        return folder_of(source)
    paths = list(dict(_chosen(store, sources, chosen)[0]))
    if len(paths) > _ZIPPED_BY_NAME:
        raise click.UsageError(
            f"a ZIP of selected images can contain at most {_ZIPPED_BY_NAME:,} images, but "
            f"{len(paths):,} are selected: pass one folder without a filter, or omit --zip"
        )
    return paths


def images_to_copy(
    store: ImageStore, sources: Sequence[str], target: str, chosen: Filter
) -> dict[str, str]:
    """Map the path of each image to its new path, or raise `ImageNotFound` if none matches."""
    images, is_one_image = _chosen(store, sources, chosen)
    into = target.endswith("/") or target == "" or not is_one_image
    planned = {path: folder_of(target) + name if into else target for path, name in images}
    if same := [path for path, there in planned.items() if there == path]:
        raise click.UsageError(f"{same[0]}: source and target are the same")
    by_target(planned.items())
    return planned


def _chosen(
    store: ImageStore, sources: Sequence[str], chosen: Filter
) -> tuple[list[tuple[str, str]], bool]:
    """Return the images that pass the filter, and whether the only source is an image's path."""
    images = [image for source in sources for image in images_of(store, source)]
    selected = [(path, name) for path, name in images if chosen.takes(name)]
    if not selected:
        raise click.UsageError("no image matches the filters --include and --exclude")
    return selected, len(selected) == 1 and [selected[0][0]] == list(sources)


def images_of(store: ImageStore, source: str) -> list[tuple[str, str]]:
    """Return the path and the relative path of each image, or raise `ImageNotFound`.

    The second path is relative to the source or, for a pattern, to the part before the wildcards.
    """
    magic = _MAGIC.search(source)
    if magic:
        prefix = source[: magic.start()]
        pattern = source.split("/")
        paths = [path for path in store.iter(prefix) if _matches(pattern, path.split("/"))]
        start = prefix.rfind("/") + 1
    elif not source.endswith("/") and source and is_image(store, source):
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
