"""Command `stillroom du`, which prints the sizes of folders in the store."""

from collections import defaultdict
from collections.abc import Iterable

import click

from stillroom.cli.images import completed
from stillroom.cli.options import json_option
from stillroom.cli.output import echo_record, size_text
from stillroom.cli.selection import Filter, filter_options, folder_of
from stillroom.cli.server_options import SERVER, open_store, server_options
from stillroom.client import ImageInfo


@click.command(epilog=SERVER)
@click.argument("folder", default="", shell_complete=completed)
@click.option(
    "-d", "--depth", type=click.IntRange(0), default=1, show_default=True, help="Levels of folders."
)
@json_option("One JSON object per line: path, size, images.")
@filter_options
@server_options
def du(folder: str, *, depth: int, as_json: bool, chosen: Filter) -> None:
    """Print the total size, the number of images and the path of each folder.

    Listing a million images takes minutes. With a bucket, the server sends one request per image.
    """
    folder = folder_of(folder)
    with open_store() as store:
        sums = _sums(store.entries(folder), folder, depth, chosen)
    for name in sorted(sums, key=lambda name: (name == folder, name)):
        size, images = sums[name]
        line = f"{size_text(size):>9}  {images:>9,}  {name or '/'}"
        echo_record({"path": name, "size": size, "images": images}, line, as_json=as_json)


def _sums(
    entries: Iterable[ImageInfo], folder: str, depth: int, chosen: Filter
) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    sums[folder] = (0, 0)
    for entry in entries:
        name = entry.path[len(folder) :]
        if not chosen.takes(name):
            continue
        parts = name.split("/")[:-1]
        for level in range(min(depth, len(parts)) + 1):
            inner = folder + "".join(f"{part}/" for part in parts[:level])
            size, images = sums[inner]
            sums[inner] = size + entry.size, images + 1
    return sums
