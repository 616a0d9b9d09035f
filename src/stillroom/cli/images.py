"""Commands `stillroom put`, `get`, `ls`, `rm`, `url` and `cat`."""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from stillroom.cli import output, selection
from stillroom.cli.options import DRY_RUN, duration, flag, json_option, json_or_file, with_default
from stillroom.cli.progress import Transfer, TransferOptions, transfer_options
from stillroom.cli.server_options import ServerCommand, open_store
from stillroom.client import DownloadedImage, Folder, ImageInfo, ImageStore, Outcome
from stillroom.client.sources import is_same
from stillroom.errors import ImageNotFound, StillroomError

_TYPE_WIDTH: Final = len("application/octet-stream")
"""Width of the column with content types. Longer types are truncated."""

PROMPT_DEADLINE_S: Final = 5
"""Deadline in seconds for quick commands. Transfers have the default of the SDK."""


def completed(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return shell completions for an image path, or none if the server does not respond."""
    logging.getLogger("stillroom.client").setLevel(logging.ERROR)  # no logs while the user types
    try:
        with open_store(context, deadline_s=1, timeout_s=2) as store:
            return list(map(CompletionItem, islice(store.iter(begun, fold=True), 200)))
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
    options: TransferOptions,
    **how: Any,  # noqa: ANN401  (see `ImageStore.save`)
) -> None:
    """Upload files, selected by path, folder or pattern. Images with the same hash are skipped.

    With --expires-in, nothing is skipped, so that the lifetimes of stored images restart.

    For one file, TARGET is its path in the store, or a folder if it ends in a slash. For several
    files, TARGET is a folder. `/` is the top folder. The files in a folder and its subfolders are
    uploaded, without the folder's own name. The source `-` is standard input.
    """
    has_facts, may_skip = how["generation"] is not None, how["expires_in"] is None
    as_json = options.as_json
    with open_store() as store:
        if sources == ("-",):
            saved = store.save(target, sys.stdin.buffer, **how)
            output.echo_result("uploaded", saved.path, as_json=as_json, size=saved.size)
            return
        planned = selection.files_to_put(sources, target, options.chosen)
        if has_facts and len(planned) != 1:
            raise click.UsageError(
                "--generation can be used with one image only: save the images one by one"
            )
        if options.dry_run:
            marked = how["ai_generated"] if may_skip and not has_facts else None
            _echo_plan(store, planned, "would upload", as_json=as_json, ai_generated=marked)
        elif has_facts:
            expires_in = how.pop("expires_in")
            save = (
                store.save_unless_same if may_skip else partial(store.save, expires_in=expires_in)
            )
            saved = save(*planned.popitem(), **how)
            result = "unchanged" if saved.skipped else "uploaded"
            output.echo_result(result, saved.path, as_json=as_json)
        else:
            sizes = {path: file.stat().st_size for path, file in planned.items()}
            with Transfer("uploaded", sizes, as_json=as_json) as transfer:
                store.save_many(
                    planned.items(),
                    concurrency=options.concurrency,
                    skip_same=True,
                    each=transfer.finish,
                    progress=transfer.progress,
                    **how,
                )


@click.command(cls=ServerCommand)
@click.argument("sources", nargs=-1, required=True, shell_complete=completed)
@click.argument("target", type=click.Path())
@transfer_options
@flag("--zip", "as_zip", help="TARGET becomes one ZIP file of all images.")
@flag("--captions", help="With --zip: add the prompts, `cat.txt` next to `cat.png`.")
def get(
    sources: tuple[str, ...], target: str, *, as_zip: bool, captions: bool, options: TransferOptions
) -> None:
    """Download images, selected by path, folder or pattern. Skip those whose files are identical.

    TARGET is a file or a folder; for several images, it is a folder. `-` is standard output.
    """
    if captions and not as_zip:
        raise click.UsageError("--captions requires --zip")
    with open_store() as store:
        if as_zip and not options.dry_run:
            images = selection.images_to_zip(store, sources, options.chosen)
            _get_zip(store, images, target, captions=captions, as_json=options.as_json)
            return
        if target == "-":
            for source in sources:
                store.download(source, sys.stdout.buffer)
            return
        folder = Path(target)
        planned = selection.images_to_get(store, sources, folder, options.chosen, as_zip=as_zip)
        if options.dry_run:
            _echo_plan(store, planned, "would download", as_json=options.as_json)
            return

        def each(outcome: Outcome[DownloadedImage]) -> None:
            file = planned[outcome.path]
            transfer.finish(outcome, file.stat().st_size if outcome.error is None else 0)

        with Transfer("downloaded", dict.fromkeys(planned, 0), as_json=options.as_json) as transfer:
            store.download_many(
                planned.items(),
                concurrency=options.concurrency,
                within=folder,
                each=each,
                progress=transfer.progress,
            )


def _get_zip(
    store: ImageStore, images: str | list[str], target: str, *, captions: bool, as_json: bool
) -> None:
    line = output.StatusLine(5)
    store.download_archive(
        images,
        sys.stdout.buffer if target == "-" else Path(target),
        sidecars="captions" if captions else None,
        progress=lambda event: line.update(f"{output.size_text(event.done)} received …"),
    )
    if target != "-":
        output.echo_result("downloaded", target, as_json=as_json)


def _echo_plan(
    store: ImageStore,
    planned: Mapping[str, Path],
    would: str,
    *,
    as_json: bool,
    ai_generated: bool | None = False,
) -> None:
    """Print the plan of a dry run. If `ai_generated` is None, stored images are not skipped."""
    for path, file in planned.items():
        result = would
        if ai_generated is not None:
            with contextlib.suppress(ImageNotFound):
                if is_same(file, store.stat(path), ai_generated=ai_generated):
                    result = "unchanged"
        output.echo_result(result, path, as_json=as_json)


@click.command(cls=ServerCommand)
@click.argument("folder", default="", shell_complete=completed)
@flag("-l", "--long", help="Size, time and type as well.")
@flag("-R", "--recursive", help="All levels.")
@flag("--tree", help="All levels, indented.")
@json_option("One JSON object per line, with all fields.")
def ls(folder: str, *, long: bool, recursive: bool, tree: bool, as_json: bool) -> None:
    """List a folder, or one image."""
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        entry, open_folders = None, list[str]()
        for entry in _entries(store, folder, deep=recursive or tree, facts=long or as_json):
            if tree:
                open_folders = _branch(entry, open_folders, long=long)
            else:
                output.echo_record(entry, _line(entry, entry.path, long=long), as_json=as_json)
        if entry is None and folder.strip("/"):
            raise selection.no_such_image(folder)


def _entries(
    store: ImageStore, folder: str, *, deep: bool, facts: bool
) -> Iterator[ImageInfo | Folder]:
    if not folder.endswith("/") and folder and selection.is_image(store, folder):
        yield store.stat(folder)
        return
    folder = selection.folder_of(folder)
    if facts:
        yield from store.entries(folder) if deep else store.level(folder)
        return
    yield from map(Folder, store.iter(folder, fold=not deep))


def _line(entry: ImageInfo | Folder, name: str, *, long: bool) -> str:
    if not long:
        return name
    size = saved = kind = "-"
    if isinstance(entry, ImageInfo):
        size, saved = output.size_text(entry.size), output.time_text(entry.modified)
        kind = entry.content_type
    return f"{size:>9}  {saved:20}  {kind:{_TYPE_WIDTH}.{_TYPE_WIDTH}}  {name}"


def _branch(entry: ImageInfo | Folder, open_folders: list[str], *, long: bool) -> list[str]:
    *folders, name = entry.path.split("/")
    for depth, folder in enumerate(folders):
        if open_folders[: depth + 1] != folders[: depth + 1]:
            click.echo(_line(Folder(folder), f"{'  ' * depth}{folder}/", long=long))
    click.echo(_line(entry, f"{'  ' * len(folders)}{name}", long=long))
    return folders


@click.command(cls=ServerCommand)
@click.argument("sources", nargs=-1, required=True, shell_complete=completed)
@flag("-r", "--recursive", help="Delete folders and everything in them.")
@flag("-y", "--yes", help="Do not ask.")
@DRY_RUN
@selection.filter_options
@json_option("A JSON object: deleted, missing. With --dry-run, one per line: path, result.")
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
        selected: dict[str, None] = {}
        needs_confirmation = False
        for source in sources:
            images = selection.images_of(store, source)
            below = [path for path, name in images if chosen.takes(name)]
            if below != [source]:
                if not recursive:
                    raise click.UsageError(
                        f"{source} is a folder with {output.counted(len(below), 'image')}: "
                        "add --recursive to delete it"
                    )
                needs_confirmation = True
            selected |= dict.fromkeys(below)
        paths, number = list(selected), output.counted(len(selected), "image")
        if dry_run:
            for path in paths:
                output.echo_result("would delete", path, as_json=as_json)
            return
        if paths and needs_confirmation and not yes:
            output.confirm_deletion(number)
        deleted = store.delete_many(paths)
        if as_json:
            click.echo(json.dumps({"deleted": deleted, "missing": len(paths) - deleted}))
        click.echo(f"{deleted} deleted" if deleted else output.NOTHING_DELETED, err=True)


@click.command(cls=ServerCommand)
@click.argument("path", shell_complete=completed)
@with_default("--expires", type=duration, default="1h", help="90s 15m 12h 7d")
@flag("--zip", "as_zip", help="Of a ZIP file with the folder PATH, or a pattern's images.")
@flag("--run", "as_run", help="Of a ZIP file with the published run in the folder PATH.")
@json_option("A JSON object: path, url, expires_in.")
def url(path: str, *, expires: timedelta, as_zip: bool, as_run: bool, as_json: bool) -> None:
    """Print a signed URL with which one image, or one ZIP file, can be read without a token."""
    if as_zip and as_run:
        raise click.UsageError("--zip cannot be combined with --run")
    if expires > timedelta(days=7):
        raise click.BadParameter("at most 7d", param_hint="--expires")
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        if as_run:
            signed = store.signed_url(run=path.rstrip("/"), expires_in=expires)
        elif as_zip:
            images = selection.images_to_zip(store, [path], selection.Filter())
            if isinstance(images, str) and not any(store.iter(images, fold=True)):
                raise selection.no_such_image(path)
            signed = store.signed_url(archive=images, expires_in=expires)
        else:
            store.stat(path)  # the server would also sign the path of a missing image
            signed = store.signed_url(path, expires_in=expires)
    known = {"path": path, "url": signed, "expires_in": int(expires.total_seconds())}
    output.echo_record(known, signed, as_json=as_json)


@click.command(cls=ServerCommand)
@click.argument("paths", nargs=-1, required=True, shell_complete=completed)
def cat(paths: tuple[str, ...]) -> None:
    """Write images to standard output, one after the other."""
    with open_store() as store:
        for path in paths:
            store.download(path, sys.stdout.buffer)
