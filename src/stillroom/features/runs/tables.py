"""Tables of the unfinished deletions of runs, and of the published runs that have an event."""

from typing import Final

import sqlalchemy as sa

from stillroom.features.database.tables import Moment, lease_columns, metadata
from stillroom.paths import MAX_KEY_BYTES

run_deletions: Final = sa.Table(
    "media_run_deletions",
    metadata,
    # Key prefix of the run's images: `compute/<folder>/`.
    sa.Column("folder", sa.String(MAX_KEY_BYTES), primary_key=True),
    # Images that were saved later are kept.
    sa.Column("saved_until", Moment, nullable=False),
    # Last key on the last page that was marked; empty at the start.
    sa.Column("after", sa.String(MAX_KEY_BYTES), nullable=False),
    sa.Column("marked", sa.BigInteger, nullable=False),
    sa.Column("kept", sa.BigInteger, nullable=False),
    sa.Column("newer", sa.BigInteger, nullable=False),
    # Id in the trash; null if the images are deleted for good.
    sa.Column("trash_id", sa.Uuid),
    *lease_columns(),
)

run_publications: Final = sa.Table(
    "media_run_publications",
    metadata,
    # Key prefix of the run's images: `compute/<folder>/`.
    sa.Column("folder", sa.String(MAX_KEY_BYTES), primary_key=True),
    # Version of the manifest.
    sa.Column("save_id", sa.Text, nullable=False),
)
