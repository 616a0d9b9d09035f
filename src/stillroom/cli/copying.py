"""Commands `stillroom cp` and `mv`, which copy images on the server without downloading them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from stillroom.cli.images import CONCURRENCY, DRY_RUN, RESULTS, completed, run_transfer
from stillroom.cli.progress import Transfer, result_line
from stillroom.cli.selection import Filter, filter_options, images_to_copy
from stillroom.cli.server_options import SERVER, open_store, server_options
from stillroom.client import ImageStore, Outcome, SavedImage
from stillroom.client.threads import Workers, outcomes_of


def _options(command: Callable[..., None]) -> click.Command:
    for option in (server_options, RESULTS, filter_options, DRY_RUN, CONCURRENCY):
        command = option(command)
    command = click.argument("target", shell_complete=completed)(command)
    sources = click.argument("sources", nargs=-1, required=True, shell_complete=completed)
    return click.command(epilog=SERVER)(sources(command))


@_options
def cp(sources: tuple[str, ...], target: str, **how: Any) -> None:  # noqa: ANN401  (see `_each`)
    """Copy images, folders (`cats/`) and patterns to another path of the store.

    TARGET is a path for one image, else a folder; `/` is the top. What is there is replaced.
    """
    _each("copied", ImageStore.copy, sources, target, **how)


@_options
def mv(sources: tuple[str, ...], target: str, **how: Any) -> None:  # noqa: ANN401  (see `_each`)
    """Move images, folders (`cats/`) and patterns to another path of the store.

    TARGET is a path for one image, else a folder; `/` is the top. What is there is replaced. An
    image that is replaced while it is moved stays.
    """
    _each("moved", ImageStore.move, sources, target, **how)


def _each(
    verb: str,
    do: Callable[[ImageStore, str, str], SavedImage],
    sources: tuple[str, ...],
    target: str,
    *,
    concurrency: int,
    dry_run: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    as_json: bool,
) -> None:
    with open_store() as store:
        planned = images_to_copy(store, sources, target, Filter(include, exclude))
        if dry_run:
            would = {"copied": "would copy", "moved": "would move"}[verb]
            for path, there in planned.items():
                click.echo(result_line(would, path, as_json=as_json, target=there))
            return
        with Transfer.shown(verb, len(planned), 0, as_json=as_json) as transfer:

            def each(outcome: Outcome[SavedImage]) -> None:
                size = outcome.result.size if outcome.result else 0
                transfer.finish(outcome, size, target=planned[outcome.path])

            jobs = (
                partial(outcomes_of, path, partial(do, store, path, there))
                for path, there in planned.items()
            )
            run_transfer(lambda: Workers(concurrency).run(jobs, each))
