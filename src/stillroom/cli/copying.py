"""Commands `stillroom cp` and `mv`, which copy images on the server without downloading them."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import click

from stillroom.cli.images import completed
from stillroom.cli.output import echo_result
from stillroom.cli.progress import Transfer, TransferOptions, transfer_options
from stillroom.cli.selection import Filter, by_target, images_to_copy
from stillroom.cli.server_options import SERVER, open_store, server_options
from stillroom.client import ImageStore, Outcome, SavedImage, SomeFailed
from stillroom.client.threads import Workers, outcomes_of
from stillroom.errors import ImageNotFound, InvalidPath
from stillroom.paths import ImagePath
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
        posters = _posters(store, planned, options) if do is ImageStore.move else {}
        selected = [*planned]
        planned |= posters
        if options.dry_run:
            for path, there in planned.items():
                echo_result(would, path, as_json=options.as_json, target=there)
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
        with Transfer(verb, len(planned), 0, as_json=options.as_json) as transfer:
            Workers(options.concurrency).run(jobs, each)


def _posters(
    store: ImageStore, planned: dict[str, str], options: TransferOptions
) -> dict[str, str]:
    """Return the target paths of posters whose videos are moved, by the paths of the posters."""
    chosen = Filter(exclude=options.chosen.exclude)
    posters = {
        path + POSTER_SUFFIX: there + POSTER_SUFFIX
        for path, there in planned.items()
        if path.lower().endswith(_VIDEOS)
    }
    for path, there in [*posters.items()]:
        if path in planned or not chosen.takes(path) or not (_is_path(path) and _is_path(there)):
            del posters[path]

    def each(outcome: Outcome[bool]) -> None:
        if outcome.result is False:
            del posters[outcome.path]

    jobs = [partial(outcomes_of, path, partial(store.exists, path)) for path in posters]
    with contextlib.suppress(SomeFailed):  # a poster that may exist is moved if it does
        Workers(options.concurrency).run(jobs, each)
    by_target((planned | posters).items())
    return posters


def _is_path(text: str) -> bool:
    try:
        ImagePath.parse(text)
    except InvalidPath:  # too long with the suffix
        return False
    return True
