"""Command `stillroom sync`, which copies changes from a local folder to the store or back."""

import contextlib
import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click

from stillroom.cli.output import counted, echo_result
from stillroom.cli.progress import Transfer, TransferOptions, transfer_options
from stillroom.cli.selection import Filter, files_below, folder_of
from stillroom.cli.server_options import SERVER, open_store, server_options
from stillroom.client import DownloadedImage, ImageInfo, ImageStore, Outcome
from stillroom.client.sources import is_same
from stillroom.client.threads import Workers, outcomes_of
from stillroom.client.values import OnProgress

_STORE: Final = "store:"
_UNFINISHED: Final = re.compile(r"\.stillroom-[0-9a-f]{16}\.part")
"""Names of the temporary files that an interrupted download leaves; see `client/sinks.py`."""


@click.command(epilog=SERVER)
@click.argument("source")
@click.argument("target")
@click.option("--delete", is_flag=True, help="Also delete what is only in TARGET.")
@transfer_options
@server_options
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
    sides = _Sides(
        local=Path(source if is_up else target),
        folder=folder_of(folder),
        chosen=options.chosen,
    )
    if is_up and not sides.local.is_dir():
        raise click.UsageError(f"no such folder: {source}")
    if not is_up and sides.local.exists() and not sides.local.is_dir():
        raise click.UsageError(f"{target} is not a folder")
    with open_store() as store:
        plan = _plan(store, sides, is_up=is_up, delete=delete)
        if options.dry_run:
            _show(plan, as_json=options.as_json)
        else:
            _carry_out(plan, options)


@dataclass(frozen=True, slots=True)
class _Sides:
    """The two folders that are synchronized. All names are relative to these folders."""

    local: Path
    folder: str
    chosen: Filter

    def files(self) -> dict[str, Path]:
        found = {
            file.relative_to(self.local).as_posix(): file
            for file in files_below(self.local)
            if not _UNFINISHED.fullmatch(file.name)
        }
        return {name: file for name, file in found.items() if self.chosen.takes(name)}

    def images(self, store: ImageStore) -> dict[str, ImageInfo]:
        found = {entry.path[len(self.folder) :]: entry for entry in store.entries(self.folder)}
        return {name: image for name, image in found.items() if self.chosen.takes(name)}


@dataclass(frozen=True, slots=True)
class _Plan:
    """Actions that make the target folder like the source folder.

    For each path, there are two jobs: the first returns whether the image is unchanged, the second
    copies it. `delete` deletes the `superfluous` paths and returns how many existed.
    """

    verb: str
    jobs: Mapping[str, tuple[Callable[[], bool], Callable[..., object]]]
    sizes: Mapping[str, int]
    superfluous: tuple[str, ...]
    delete: Callable[[tuple[str, ...]], int]


def _plan(store: ImageStore, sides: _Sides, *, is_up: bool, delete: bool) -> _Plan:
    files, images = sides.files() if sides.local.is_dir() else {}, sides.images(store)
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
        path, file = sides.folder + name, sides.local / name
        up, down = partial(store.save, path, file), partial(_fetch, store, path, file, sides.local)
        jobs[path] = partial(is_same, file, images.get(name)), up if is_up else down
        sizes[path] = file.stat().st_size if is_up else images[name].size
    if is_up:
        gone = tuple(sides.folder + name for name in superfluous)
        return _Plan("uploaded", jobs, sizes, gone, store.delete_many)
    gone = tuple(str(sides.local / name) for name in superfluous)
    return _Plan("downloaded", jobs, sizes, gone, partial(_unlink, sides.local))


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


def _show(plan: _Plan, *, as_json: bool) -> None:
    would = {"uploaded": "would upload", "downloaded": "would download"}[plan.verb]
    for path, (is_there, _) in plan.jobs.items():
        echo_result("unchanged" if is_there() else would, path, as_json=as_json)
    for name in plan.superfluous:
        echo_result("would delete", name, as_json=as_json)


def _carry_out(plan: _Plan, options: TransferOptions) -> None:
    total = sum(plan.sizes.values())
    as_json = options.as_json

    def each(outcome: Outcome[DownloadedImage]) -> None:
        transfer.finish(outcome, plan.sizes[outcome.path])

    def do(path: str, is_there: Callable[[], bool], copy: Callable[..., object]) -> DownloadedImage:
        skipped = is_there()
        if not skipped:
            copy(progress=workers.progress)
        return DownloadedImage(path, Path(), skipped=skipped)

    jobs = (partial(outcomes_of, path, partial(do, path, *job)) for path, job in plan.jobs.items())
    with Transfer(plan.verb, len(plan.jobs), total, as_json=as_json) as transfer:
        workers = Workers(options.concurrency, transfer.progress)
        workers.run(jobs, each)
    if plan.superfluous:
        deleted = plan.delete(plan.superfluous)
        for name in plan.superfluous:
            echo_result("deleted", name, as_json=as_json)
        click.echo(f"{deleted} deleted", err=True)
