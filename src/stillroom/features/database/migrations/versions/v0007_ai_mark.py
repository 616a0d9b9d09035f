"""Column for the AI labels of resources."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    """Add the column `ai_mark`. Null means that the label was not read yet."""
    op.add_column("media_resources", sa.Column("ai_mark", sa.String(8)))
