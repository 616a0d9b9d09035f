"""Commands `stillroom put`, `get`, `ls`, `rm`, `url` and `cat`."""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from stillroom.cli import selection
from stillroom.cli.options import DRY_RUN, duration, flag, json_option, json_or_file, with_default
from stillroom.cli.output import (
    StatusLine,
    counted,
    echo_record,
    echo_result,
    json_text,
    size_text,
    time_text,
)
from stillroom.cli.progress import Transfer, TransferOptions, transfer_options
from stillroom.cli.server_options import ServerCommand, open_store
from stillroom.client import DownloadedImage, Folder, ImageInfo, ImageStore, Outcome
from stillroom.client.sources import is_same
from stillroom.errors import ImageNotFound, StillroomError

_TYPE_WIDTH: Final = len("application/octet-stream")
"""Column width for content types. Longer ones, which only other tools store, are truncated."""

_LONGEST_URL: Final = timedelta(days=7)
"""Longest validity of a signed URL, which the server enforces."""

PROMPT_DEADLINE_S: Final = 5
"""Deadline in seconds of commands for which a user waits. Transfers have the SDK's default."""


def completed(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return shell completions for an image path, or none if the server does not respond."""
    logging.getLogger("stillroom.client").setLevel(logging.ERROR)  # no logs while the user types
    try:
        with open_store(context, deadline_s=1, timeout_s=2) as store:
            return [
                CompletionItem(name)
                for name, _ in zip(store.iter(begun, fold=True), range(200), strict=False)
            ]
    except (StillroomError, OSError):
        return []


@click.command(cls=ServerCommand)
@click.argument("sources", nargs=-1, required=True, type=click.Path())
@click.argument("target")
@click.option(
    "--generation",
    type=json_or_file,
    metavar="JSON|FILE",
    help="Generation metadata to add to the image: a JSON object, or a file with one.",
)
@flag("--ai-generated", help="Add the AI mark to each image that has none.")
@click.option("--expires-in", type=duration, help="Delete the images after this: 90s 15m 12h 7d")
@transfer_options
def put(
    sources: tuple[str, ...],
    target: str,
    *,
    generation: dict[str, Any] | None,
    ai_generated: bool,
    expires_in: timedelta | None,
    options: TransferOptions,
) -> None:
    """Upload files, selected by path, folder or pattern. Images with the same hash are skipped.

    With --expires-in, nothing is skipped, so that the lifetimes of stored images restart.

    For one file, TARGET is its path in the store, or a folder if it ends in a slash. For several
    files, TARGET is a folder. `/` is the top folder. The files in a folder and its subfolders are
    uploaded, without the folder's own name. The source `-` is standard input.
    """
    facts: dict[str, Any] = {"generation": generation, "ai_generated": ai_generated}
    as_json = options.as_json
    with open_store() as store:
        if sources == ("-",):
            saved = store.save(target, sys.stdin.buffer, **facts, expires_in=expires_in)
            echo_result("uploaded", saved.path, as_json=as_json, size=saved.size)
            return
        planned = selection.files_to_put(sources, target, options.chosen)
        if generation is not None and len(planned) != 1:
            raise click.UsageError(
                "--generation can be used with one image only: save the images one by one"
            )
        if options.dry_run:
            may_skip = generation is None and expires_in is None
            for path, file in planned.items():
                skipped = may_skip and _is_there(store, path, file, ai_generated=ai_generated)
                echo_result("unchanged" if skipped else "would upload", path, as_json=as_json)
            return
        if generation is not None:
            echo_result(*_put_one(store, *planned.popitem(), facts, expires_in), as_json=as_json)
            return
        sizes = {path: file.stat().st_size for path, file in planned.items()}
        total = sum(sizes.values())
        with Transfer("uploaded", len(planned), total, as_json=as_json) as transfer:
            store.save_many(
                planned.items(),
                concurrency=options.concurrency,
                skip_same=True,
                ai_generated=ai_generated,
                expires_in=expires_in,
                each=lambda outcome: transfer.finish(outcome, sizes[outcome.path]),
                progress=transfer.progress,
            )


def _put_one(
    store: ImageStore, path: str, file: Path, facts: dict[str, Any], expires_in: timedelta | None
) -> tuple[str, str]:
    if expires_in is not None:
        return "uploaded", store.save(path, file, **facts, expires_in=expires_in).path
    saved = store.save_unless_same(path, file, **facts)
    return "unchanged" if saved.skipped else "uploaded", saved.path


@click.command(cls=ServerCommand)
@click.argument("sources", nargs=-1, required=True, shell_complete=completed)
@click.argument("target", type=click.Path())
@transfer_options
@flag("--zip", "as_zip", help="TARGET becomes one ZIP file of all images.")
@flag("--captions", help="With --zip: add the prompts, `cat.txt` next to `cat.png`.")
def get(
    sources: tuple[str, ...], target: str, *, as_zip: bool, captions: bool, options: TransferOptions
) -> None:
    """Download images, selected by path, folder or pattern. Files with the same hash are skipped.

    TARGET is a file or a folder; for several images, it is a folder. `-` is standard output.
    """
    if captions and not as_zip:
        raise click.UsageError("--captions requires --zip")
    with open_store() as store:
        if as_zip and not options.dry_run:
            wanted = selection.images_to_zip(store, sources, options.chosen)
            to = sys.stdout.buffer if target == "-" else Path(target)
            line = StatusLine(5)
            try:
                store.download_archive(
                    wanted,
                    to,
                    sidecars="captions" if captions else None,
                    progress=lambda told: line.update(f"{size_text(told.done)} received …"),
                )
            finally:
                line.erase()
            if target != "-":
                echo_result("downloaded", target, as_json=options.as_json)
            return
        if target == "-":
            for source in sources:
                store.download(source, sys.stdout.buffer)
            return
        planned = selection.images_to_get(
            store, sources, Path(target), options.chosen, as_zip=as_zip
        )
        if options.dry_run:
            for path, file in planned.items():
                result = "unchanged" if _is_there(store, path, file) else "would download"
                echo_result(result, path, as_json=options.as_json)
            return

        def each(outcome: Outcome[DownloadedImage]) -> None:
            file = planned[outcome.path]
            transfer.finish(outcome, file.stat().st_size if outcome.error is None else 0)

        with Transfer("downloaded", len(planned), 0, as_json=options.as_json) as transfer:
            store.download_many(
                planned.items(),
                concurrency=options.concurrency,
                within=Path(target),
                each=each,
                progress=transfer.progress,
            )


def _is_there(store: ImageStore, path: str, file: Path, *, ai_generated: bool = False) -> bool:
    with contextlib.suppress(ImageNotFound):
        return is_same(file, store.stat(path), ai_generated=ai_generated)
    return False


@click.command(cls=ServerCommand)
@click.argument("folder", default="", shell_complete=completed)
@flag("-l", "--long", help="Size, time and type as well.")
@flag("-R", "--recursive", help="All levels.")
@flag("--tree", help="All levels, indented.")
@json_option("One JSON object per line, with all fields.")
def ls(folder: str, *, long: bool, recursive: bool, tree: bool, as_json: bool) -> None:
    """List a folder, or one image."""
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        entry, shown = None, list[str]()
        for entry in _entries(store, folder, deep=recursive or tree, facts=long or as_json):
            if tree:
                shown = _branch(entry, shown, long=long)
            elif as_json:
                click.echo(json_text(asdict(entry)))
            else:
                click.echo(_line(entry, entry.path, long=long))
        if entry is None and folder:
            raise selection.no_such_image(folder)


def _entries(
    store: ImageStore, folder: str, *, deep: bool, facts: bool
) -> Iterator[ImageInfo | Folder]:
    if folder and not folder.endswith("/"):
        if store.exists(folder):
            yield store.stat(folder)
            return
        folder += "/"
    if facts:
        yield from store.entries(folder) if deep else store.level(folder)
        return
    for name in store.iter(folder, fold=not deep):
        yield Folder(name)


def _line(entry: ImageInfo | Folder, name: str, *, long: bool) -> str:
    if not long:
        return name
    size = saved = kind = "-"
    if isinstance(entry, ImageInfo):
        size, saved = size_text(entry.size), time_text(entry.modified)
        kind = entry.content_type
    return f"{size:>9}  {saved:20}  {kind:{_TYPE_WIDTH}.{_TYPE_WIDTH}}  {name}"


def _branch(entry: ImageInfo | Folder, shown: list[str], *, long: bool) -> list[str]:
    *folders, name = entry.path.split("/")
    for depth, folder in enumerate(folders):
        if shown[: depth + 1] != folders[: depth + 1]:
            click.echo(_line(Folder(folder), f"{'  ' * depth}{folder}/", long=long))
    click.echo(_line(entry, f"{'  ' * len(folders)}{name}", long=long))
    return folders


@click.command(cls=ServerCommand)
@click.argument("sources", nargs=-1, required=True, shell_complete=completed)
@flag("-r", "--recursive", help="Delete folders and everything in them.")
@flag("-y", "--yes", help="Do not ask.")
@DRY_RUN
@selection.filter_options
@json_option("One JSON object per line: path, result and size.")
def rm(
    sources: tuple[str, ...],
    *,
    recursive: bool,
    yes: bool,
    dry_run: bool,
    chosen: selection.Filter,
    as_json: bool,
) -> None:
    """Delete images or, with --recursive and after a confirmation, folders."""
    with open_store() as store:
        wanted: dict[str, None] = {}
        asks = False
        for source in sources:
            images = selection.images_of(store, source)
            found = [path for path, name in images if chosen.takes(name)]
            if found != [source]:
                if not recursive:
                    raise click.UsageError(
                        f"{source} is a folder with {counted(len(found), 'image')}: "
                        "add --recursive to delete it"
                    )
                asks = True
            wanted |= dict.fromkeys(found)
        paths, number = list(wanted), counted(len(wanted), "image")
        if dry_run:
            for path in paths:
                echo_result("would delete", path, as_json=as_json)
            return
        if asks and not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"{number} would be deleted: add --yes to confirm")
            click.confirm(f"Delete {number}?", abort=True)
        deleted = store.delete_many(paths)
        if as_json:
            click.echo(json.dumps({"deleted": deleted, "missing": len(paths) - deleted}))
        click.echo(f"{deleted} deleted", err=True)


@click.command(cls=ServerCommand)
@click.argument("path", shell_complete=completed)
@with_default("--expires", type=duration, default="1h", help="90s 15m 12h 7d")
@json_option("A JSON object: path, url, expires_in.")
def url(path: str, *, expires: timedelta, as_json: bool) -> None:
    """Print a signed URL with which one image can be read without a token, and nothing else."""
    if expires > _LONGEST_URL:
        raise click.BadParameter("at most 7d", param_hint="--expires")
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        store.stat(path)  # the server would also sign the path of a missing image
        signed = store.signed_url(path, expires_in=expires)
    seconds = int(expires.total_seconds())
    echo_record({"path": path, "url": signed, "expires_in": seconds}, signed, as_json=as_json)


@click.command(cls=ServerCommand)
@click.argument("paths", nargs=-1, required=True, shell_complete=completed)
def cat(paths: tuple[str, ...]) -> None:
    """Write images to standard output, one after the other."""
    with open_store() as store:
        for path in paths:
            store.download(path, sys.stdout.buffer)
