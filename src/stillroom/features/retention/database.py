"""Access to the pending deletions of expired images. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import RowsOf, rows_of

if TYPE_CHECKING:
    from stillroom.features.retention.rows import ExpiryRows

expiry_rows: "RowsOf[ExpiryRows]" = rows_of("stillroom.features.retention.rows.ExpiryRows")
