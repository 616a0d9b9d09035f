"""Changes of images that a transaction of the search index reports, for the feed of events."""

from collections.abc import Iterable, Mapping
from typing import Any

from stillroom.features.database.changes import Change
from stillroom.features.search.values import Removed
from stillroom.paths import StorageKey, image_entry


def changes_of_saves(
    rows: Iterable[Mapping[str, Any]],
    actors: Mapping[StorageKey, str | None],
    runs: Mapping[StorageKey, str],
    *,
    found: bool,
) -> Iterable[Change]:
    """Yield a change for each saved image, from its index row. Skip files of the media library.

    `actors` contains the subjects of the tokens that saved the images, and `runs` the folders of
    the runs that contain the images. `found` is True if a comparison found these saves.
    """
    for row in rows:
        key = StorageKey(row["storage_key"])
        if not key.is_media:
            data = {
                "etag": row["etag"],
                "sha256": row["sha256"].hex() if row["sha256"] else None,
                "size": row["size"],
                "content_type": row["content_type"],
                "run": runs.get(key),
                "ai_mark": row["ai_mark"],
            }
            actor, path = actors.get(key), image_entry(key.text)
            yield Change("image.saved", path, actor=actor, data=data, found=found)


def changes_of_deletions(removed: Iterable[Removed], *, found: bool) -> Iterable[Change]:
    """Yield a change for each deleted image. Skip files of the media library."""
    for image in removed:
        if not image.key.is_media:
            cause, path = image.cause, image_entry(image.key.text)
            yield Change("image.deleted", path, actor=cause.actor, reason=cause.reason, found=found)
