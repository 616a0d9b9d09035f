"""Commands `stillroom cp` and `mv`, which copy images on the server without downloading them."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click

from stillroom.cli.images import completed
from stillroom.cli.output import echo_result
from stillroom.cli.progress import Transfer, TransferOptions, transfer_options
from stillroom.cli.selection import Filter, images_to_copy
from stillroom.cli.server_options import SERVER, open_store, server_options
from stillroom.client import ImageStore, Outcome, SavedImage
from stillroom.client.threads import Workers, outcomes_of
from stillroom.wire.thumbnails import POSTER_SUFFIX

_VIDEOS: Final = (".mp4", ".m4v", ".mov", ".webm")
"""Endings of the names of videos, whose posters move with them."""


def _command(command: Callable[..., None]) -> click.Command:
    command = transfer_options(server_options(command))
    command = click.argument("target", shell_complete=completed)(command)
    sources = click.argument("sources", nargs=-1, required=True, shell_complete=completed)
    return click.command(epilog=SERVER)(sources(command))


@_command
def cp(**how: Any) -> None:  # noqa: ANN401  (see `_each`)
    """Copy images, selected by path, folder (`cats/`) or pattern, to another path of the store.

    For one image, TARGET is its new path, or a folder if it ends in a slash. For several images,
    TARGET is a folder. `/` is the top folder. Existing images at the new paths are replaced.
    """
    _each("copied", "would copy", ImageStore.copy, **how)


@_command
def mv(**how: Any) -> None:  # noqa: ANN401  (see `_each`)
    """Move images, selected by path, folder (`cats/`) or pattern, to another path of the store.

    For one image, TARGET is its new path, or a folder if it ends in a slash. For several images,
    TARGET is a folder. `/` is the top folder. Existing images at the new paths are replaced. A
    source that is replaced during the move is not deleted. The poster of a video
    (`a.mp4.poster.webp` next to `a.mp4`) is moved with it, unless --exclude matches.
    """
    _each("moved", "would move", ImageStore.move, **how)


def _each(
    verb: str,
    would: str,
    do: Callable[[ImageStore, str, str], SavedImage],
    *,
    sources: tuple[str, ...],
    target: str,
    options: TransferOptions,
) -> None:
    with open_store() as store:
        planned = images_to_copy(store, sources, target, options.chosen)
        if do is ImageStore.move:
            planned |= _posters(store, planned, options)
        if options.dry_run:
            for path, there in planned.items():
                echo_result(would, path, as_json=options.as_json, target=there)
            return

        def each(outcome: Outcome[SavedImage]) -> None:
            size = outcome.result.size if outcome.result else 0
            transfer.finish(outcome, size, target=planned[outcome.path])

        jobs = (
            partial(outcomes_of, path, partial(do, store, path, there))
            for path, there in planned.items()
        )
        with Transfer(verb, len(planned), 0, as_json=options.as_json) as transfer:
            Workers(options.concurrency).run(jobs, each)


def _posters(
    store: ImageStore, planned: dict[str, str], options: TransferOptions
) -> dict[str, str]:
    """Return the target paths of posters whose videos are moved, by the paths of the posters."""
    chosen = Filter(exclude=options.chosen.exclude)
    targets = {
        path + POSTER_SUFFIX: there + POSTER_SUFFIX
        for path, there in planned.items()
        if path.lower().endswith(_VIDEOS)
    }
    wanted = [path for path in targets if path not in planned and chosen.takes(path)]
    jobs = (partial(outcomes_of, path, partial(store.exists, path)) for path in wanted)
    is_there = Workers(options.concurrency).run(jobs)
    return {path: targets[path] for path, found in zip(wanted, is_there, strict=True) if found}
