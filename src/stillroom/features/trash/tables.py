"""Table of the images in the trash, and of the manifests of deleted runs."""

from typing import Final

import sqlalchemy as sa

from stillroom.features.database.tables import Key, Moment, metadata
from stillroom.features.library.rows.tables import deletions
from stillroom.paths import MAX_KEY_BYTES

trash: Final = sa.Table(
    "media_trash",
    metadata,
    # Id of the file's pending deletion. This row is deleted together with the pending deletion.
    sa.Column("id", sa.Uuid, sa.ForeignKey(deletions.c.id, ondelete="CASCADE"), primary_key=True),
    # Id for clients. The images and the manifest of a deleted run have the same id.
    sa.Column("trash_id", sa.Uuid, nullable=False),
    # Path of the image, or folder of the run with a slash at the end.
    sa.Column("path", sa.String(MAX_KEY_BYTES), nullable=False),
    sa.Column("storage_key", Key, nullable=False),
    # Key of the file in the trash.
    sa.Column("place", Key, nullable=False),
    # Version of the image that was moved.
    sa.Column("save_id", sa.Text, nullable=False),
    sa.Column("sha256", sa.LargeBinary(32)),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("deleted_at", Moment, nullable=False),
    sa.Column("purge_at", Moment, nullable=False),
    sa.Column("actor", sa.String(255)),
    sa.Index(None, "trash_id"),
)
