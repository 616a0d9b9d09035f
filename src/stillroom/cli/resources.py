"""Commands `stillroom media ls`, `show`, `tag` and `heal`, for resources of the media library."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Final, cast

import click

from stillroom.cli.facts import facts_lines, labelled
from stillroom.cli.options import DATA_DIR, flag, json_option, moment, read_settings
from stillroom.cli.output import StatusLine, counted, echo_record, json_text, size_text, time_text
from stillroom.cli.search import facts_options, query_of
from stillroom.cli.server_options import ServerCommand, is_server_named, open_store
from stillroom.client import ImageStore
from stillroom.client.values import HealingProgress, ResourceFilters
from stillroom.wire.media import MediaResource

_AS_JSON = json_option("JSON, with all fields.")
_WHERE: Final = (
    "If --url, --profile, STILLROOM_URL, STILLROOM_PROFILE or a profile `default` names a "
    "server (docs/cli.md), and --data-dir is not used, the command calls that server. Otherwise it "
    "opens the library on this machine, with the settings of the server."
)


@click.command("ls", cls=ServerCommand, epilog=_WHERE)
@facts_options
@click.option("--type", "kind", help="Only image or video, or one type such as image/png.")
@click.option(
    "--source-key", "source_keys", multiple=True, help="Key of the source: compute/a.png."
)
@click.option("--source-prefix", help="Prefix of the source's key: compute/run/.")
@click.option("--content-hash", help="SHA-256 of the resource.")
@click.option("--from", "created_from", type=moment, metavar="TIME", help="Added since TIME.")
@click.option("--before", "created_before", type=moment, metavar="TIME", help="Added before TIME.")
@flag("-l", "--long", help="Size, time, type, dimensions and tags as well.")
@_AS_JSON
@DATA_DIR
def list_resources(
    words: tuple[str, ...],
    *,
    kind: str | None,
    source_keys: tuple[str, ...],
    long: bool,
    as_json: bool,
    data_dir: str | None,
    **filters: object,
) -> None:
    """List the resources of the library, newest first: id and source.

    WORDS match prompts, paths and models (as in `stillroom search`), captions, alt texts and tags.
    """
    filters["source_key"] = source_keys
    if kind not in (None, "image", "video") and "/" not in str(kind):
        raise click.UsageError("--type must be image, video, or a content type such as image/png")
    filters["content_type" if kind and "/" in kind else "resource_type"] = kind
    filters = {name: value for name, value in filters.items() if value not in (None, "", ())}
    resource = None
    with _store(data_dir) as store:
        for resource in store.media.list(query_of(words), **cast("ResourceFilters", filters)):
            echo_record(resource, _line(resource, long=long), as_json=as_json)
    if resource is None:
        click.echo("nothing found", err=True)


@click.command(cls=ServerCommand, epilog=_WHERE)
@click.argument("resource_id", metavar="ID")
@_AS_JSON
@DATA_DIR
def show(resource_id: str, *, as_json: bool, data_dir: str | None) -> None:
    """Print all fields of one resource."""
    with _store(data_dir) as store:
        resource = store.media.get(resource_id)
    echo_record(resource, labelled(_lines(resource)), as_json=as_json)


def _lines(resource: MediaResource) -> Iterator[tuple[str, str]]:
    for name, value in asdict(resource).items():
        text = ", ".join(value) if isinstance(value, tuple) else value
        text = time_text(value) if isinstance(value, datetime) else text
        if name == "generation" and resource.generation is not None:
            text = "as follows"
        yield name, "-" if text in (None, "") else str(text)
    for label, text in facts_lines(resource.generation) if resource.generation else ():
        yield f"  {label}", text


@click.command(cls=ServerCommand, epilog=_WHERE)
@click.argument("resource_id", metavar="ID")
@click.argument("tags", nargs=-1, metavar="[TAG...]")
@flag("--remove", help="Remove these tags.")
@flag("--replace", help="Replace all tags; without tags, remove all.")
@_AS_JSON
@DATA_DIR
def tag(
    resource_id: str,
    tags: tuple[str, ...],
    *,
    remove: bool,
    replace: bool,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Add tags to a resource, then print its tags, one per line. Without TAG, only print them."""
    if remove and replace:
        raise click.UsageError("use --remove or --replace, not both")
    if remove and not tags:
        raise click.UsageError("--remove requires at least one TAG")
    with _store(data_dir) as store:
        all_tags = store.media.tags(
            resource_id,
            add=() if remove or replace else tags,
            remove=tags if remove else (),
            replace=tags if replace else None,
        )
    if as_json:
        click.echo(json_text({"id": resource_id, "tags": all_tags}))
        return
    for name in all_tags:
        click.echo(name)


@click.command(cls=ServerCommand, epilog=_WHERE)
@click.argument("ids", nargs=-1, metavar="[ID...]")
@_AS_JSON
@DATA_DIR
def heal(ids: tuple[str, ...], *, as_json: bool, data_dir: str | None) -> None:
    """Compute missing fields, such as the dominant colour. Without ID, all resources are processed.

    The server computes the fields in the background. If no server is named, this command computes
    them itself. The command can be interrupted and run again.
    """
    status_line = StatusLine(10)

    def progress(event: HealingProgress) -> None:
        status_line.update(f"{event.done:,} of {counted(event.total, 'resource')}")

    with _store(data_dir) as store:
        number = store.media.heal(ids or None, progress=progress)
    line = f"{counted(number, 'resource')} with missing fields"
    echo_record({"resources": number}, line, as_json=as_json)


def _store(data_dir: str | None) -> ImageStore:
    if data_dir is None and is_server_named():
        return open_store()
    from stillroom.local import open_store as open_here
    from stillroom.maintenance.inspection.choose import require_store

    require_store(read_settings(data_dir).storage)
    return open_here(data_dir)


def _line(resource: MediaResource, *, long: bool) -> str:
    source = resource.source_key or resource.storage_key
    if not long:
        return f"{resource.id}  {source}"
    made = time_text(resource.created_at)
    size = f"{resource.width}x{resource.height}"
    return (
        f"{resource.id}  {size_text(resource.file_size):>9}  {made}  {resource.content_type:16}  "
        f"{size:>11}  {resource.dominant_color or '-':7}  {source}  {', '.join(resource.tags)}"
    ).rstrip()
