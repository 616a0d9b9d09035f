"""Commands `stillroom cp` and `mv` (within the store) and `sync` (with a local folder)."""

import contextlib
import errno
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from stillroom.cli.images import completed
from stillroom.cli.options import flag
from stillroom.cli.output import counted, echo_result
from stillroom.cli.progress import Transfer, TransferOptions, transfer_options
from stillroom.cli.selection import Filter, by_target, files_below, folder_of, images_to_copy
from stillroom.cli.server_options import ServerCommand, open_store
from stillroom.client import DownloadedImage, ImageStore, Outcome, SavedImage, SomeFailed
from stillroom.client.sources import is_same
from stillroom.client.threads import Workers, outcomes_of
from stillroom.client.values import OnProgress
from stillroom.errors import ImageNotFound, InvalidPath
from stillroom.paths import ImagePath
from stillroom.wire.thumbnails import POSTER_SUFFIX

_Operation = Callable[[ImageStore, str, str], SavedImage]

_STORE: Final = "store:"
_UNFINISHED: Final = re.compile(r"\.stillroom-[0-9a-f]{16}\.part")
"""Names of temporary files that remain if a download was killed; see `client/sinks.py`."""


def _command(command: Callable[..., None]) -> click.Command:
    command = click.argument("target", shell_complete=completed)(transfer_options(command))
    sources = click.argument("sources", nargs=-1, required=True, shell_complete=completed)
    return click.command(cls=ServerCommand)(sources(command))


@_command
def cp(**options: Any) -> None:  # noqa: ANN401  (see `_transfer`)
    """Copy images, selected by path, folder (`cats/`) or pattern, to another path of the store.

    For one image, TARGET is its new path, or a folder if it ends in a slash. For several images,
    TARGET is a folder. `/` is the top folder. Existing images at the new paths are replaced.
    """
    _transfer("copied", ImageStore.copy, **options)


@_command
def mv(**options: Any) -> None:  # noqa: ANN401  (see `_transfer`)
    """Move images, selected by path, folder (`cats/`) or pattern, to another path of the store.

    For one image, TARGET is its new path, or a folder if it ends in a slash. For several images,
    TARGET is a folder. `/` is the top folder. Existing images at the new paths are replaced. A
    source that is replaced during the move is not deleted. The poster of a video
    (`a.mp4.poster.webp` next to `a.mp4`) is moved with it, unless --exclude matches.
    """
    _transfer("moved", ImageStore.move, **options)


def _transfer(
    verb: str, do: _Operation, *, sources: tuple[str, ...], target: str, options: TransferOptions
) -> None:
    with open_store() as store:
        planned = images_to_copy(store, sources, target, options.chosen)
        posters = _posters(store, planned, options) if do is ImageStore.move else {}
        selected = [*planned]
        planned |= posters
        if options.dry_run:
            for path, there in planned.items():
                echo_result(f"would {do.__name__}", path, as_json=options.as_json, target=there)
            return

        def each(outcome: Outcome[SavedImage]) -> None:
            size = outcome.result.size if outcome.result else 0
            transfer.finish(outcome, size, target=planned[outcome.path])

        def transfer_one(path: str) -> Sequence[Outcome[SavedImage]]:
            outcomes = outcomes_of(path, partial(do, store, path, planned[path]))
            poster = path + POSTER_SUFFIX
            if poster not in posters or outcomes[0].error is not None:
                return outcomes
            moved = outcomes_of(poster, partial(do, store, poster, planned[poster]))
            return outcomes if isinstance(moved[0].error, ImageNotFound) else [*outcomes, *moved]

        jobs = (partial(transfer_one, path) for path in selected)
        with Transfer(verb, dict.fromkeys(planned, 0), as_json=options.as_json) as transfer:
            Workers(options.concurrency).run(jobs, each)


def _posters(
    store: ImageStore, planned: dict[str, str], options: TransferOptions
) -> dict[str, str]:
    """Map the paths of the existing posters of all moved videos to the posters' new paths."""
    chosen = Filter(exclude=options.chosen.exclude)
    posters: dict[str, str] = {}
    for path, there in planned.items():
        poster, moved = path + POSTER_SUFFIX, there + POSTER_SUFFIX
        is_video = path.lower().endswith((".mp4", ".m4v", ".mov", ".webm"))
        if is_video and poster not in planned and chosen.takes(poster):
            with contextlib.suppress(InvalidPath):  # too long with the suffix
                posters[ImagePath.parse(poster).text] = ImagePath.parse(moved).text

    def each(outcome: Outcome[bool]) -> None:
        if outcome.result is False:
            del posters[outcome.path]

    jobs = [partial(outcomes_of, path, partial(store.exists, path)) for path in posters]
    with contextlib.suppress(SomeFailed):  # a poster that may exist is moved if it does
        Workers(options.concurrency).run(jobs, each)
    by_target((planned | posters).items())
    return posters


@click.command(cls=ServerCommand)
@click.argument("source")
@click.argument("target")
@flag("--delete", help="Also delete what is only in TARGET.")
@transfer_options
def sync(source: str, target: str, *, delete: bool, options: TransferOptions) -> None:
    """Copy changes from a local folder to a folder of the store, or back.

    Either SOURCE or TARGET must be in the store and begin with `store:`, as in
    `store:generations/7`; `store:` is the whole store. Images with the same hash are skipped.

    With --delete, images that SOURCE lacks are deleted from TARGET, once everything was copied
    successfully. Names that match --exclude are not deleted. An empty SOURCE deletes nothing.
    """
    if source.startswith(_STORE) == target.startswith(_STORE):
        raise click.UsageError(
            f"exactly one of SOURCE and TARGET must begin with `{_STORE}`, as in "
            f"`{_STORE}generations/7`: use `stillroom cp` to copy within the store"
        )
    is_up = target.startswith(_STORE)
    folder = (target if is_up else source).removeprefix(_STORE)
    local = Path(source if is_up else target)
    if is_up and not local.is_dir():
        raise click.UsageError(f"no such folder: {source}")
    if not is_up and local.exists() and not local.is_dir():
        raise click.UsageError(f"{target} is not a folder")
    with open_store() as store:
        plan = _plan(store, local, folder_of(folder), options.chosen, is_up=is_up, delete=delete)
        if not options.dry_run:
            _carry_out(plan, options)
            return
        would = f"would {plan.verb.removesuffix('ed')}"
        for path, (is_there, _) in plan.jobs.items():
            echo_result("unchanged" if is_there() else would, path, as_json=options.as_json)
        for name in plan.superfluous:
            echo_result("would delete", name, as_json=options.as_json)


@dataclass(frozen=True, slots=True)
class _Plan:
    verb: str
    jobs: Mapping[str, tuple[Callable[[], bool], Callable[..., object]]]  # is unchanged, copy
    sizes: Mapping[str, int]
    superfluous: tuple[str, ...]
    delete: Callable[[tuple[str, ...]], int]  # returns how many images or files existed


def _plan(
    store: ImageStore, local: Path, folder: str, chosen: Filter, *, is_up: bool, delete: bool
) -> _Plan:
    files = {
        name: file
        for file in files_below(local)
        if chosen.takes(name := file.relative_to(local).as_posix())
        and not _UNFINISHED.fullmatch(file.name)
    }
    entries = ((entry.path[len(folder) :], entry) for entry in store.entries(folder))
    images = {name: entry for name, entry in entries if chosen.takes(name)}
    if folder and not is_up and not images and not any(store.iter(folder)):
        raise ImageNotFound(f"{_STORE}{folder}: no such folder")
    source, target = (files, images) if is_up else (images, files)
    superfluous: tuple[str, ...] = ()
    if delete:
        superfluous = tuple(name for name in target if name not in source)
        if superfluous and not source:
            raise click.UsageError(
                f"SOURCE is empty, and --delete would delete {counted(len(superfluous), 'image')}: "
                "to delete a folder, use `stillroom rm --recursive`"
            )
    jobs: dict[str, tuple[Callable[[], bool], Callable[..., object]]] = {}
    sizes: dict[str, int] = {}
    for name in source:
        path, file = folder + name, local / name
        up, down = partial(store.save, path, file), partial(_fetch, store, path, file, local)
        jobs[path] = partial(is_same, file, images.get(name)), up if is_up else down
        sizes[path] = file.stat().st_size if is_up else images[name].size
    if is_up:
        gone = tuple(folder + name for name in superfluous)
        return _Plan("uploaded", jobs, sizes, gone, store.delete_many)
    gone = tuple(str(local / name) for name in superfluous)
    return _Plan("downloaded", jobs, sizes, gone, partial(_unlink, local))


def _fetch(store: ImageStore, path: str, file: Path, within: Path, *, progress: OnProgress) -> None:
    if file.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "cannot download to this path, because it is a folder", str(file)
        )
    store.download(path, file, within=within, progress=progress)


def _unlink(top: Path, names: tuple[str, ...]) -> int:
    for name in names:
        Path(name).unlink(missing_ok=True)
        for folder in Path(name).parents:
            if folder == top or top not in folder.parents:
                break
            with contextlib.suppress(OSError):
                folder.rmdir()
    return len(names)


def _carry_out(plan: _Plan, options: TransferOptions) -> None:
    def do(path: str, is_there: Callable[[], bool], copy: Callable[..., object]) -> DownloadedImage:
        skipped = is_there()
        if not skipped:
            copy(progress=workers.progress)
        return DownloadedImage(path, Path(), skipped=skipped)

    jobs = (partial(outcomes_of, path, partial(do, path, *job)) for path, job in plan.jobs.items())
    with Transfer(plan.verb, plan.sizes, as_json=options.as_json) as transfer:
        workers = Workers(options.concurrency, transfer.progress)
        workers.run(jobs, transfer.finish)
    if plan.superfluous:
        deleted = plan.delete(plan.superfluous)
        for name in plan.superfluous:
            echo_result("deleted", name, as_json=options.as_json)
        click.echo(f"{deleted} deleted", err=True)
