"""Table for dead letters of every kind, which replaces the table for failed deletions.

The former table stays, because servers of the older version may run until they are restarted. A
trigger moves the rows that they insert.
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0011"
down_revision: Final = "0010"

_MOVE: Final = """
    INSERT INTO dead_letters (id, kind, payload, created_at, failed_at, attempts, last_error)
    SELECT id, 'deletion', {object}('storage_key', storage_key, 'save_id', save_id,
           'reason', reason, 'content_hash', {hash}), created_at, failed_at, attempts, last_error
    FROM media_dead_letters;
    DELETE FROM media_dead_letters;
"""


def upgrade() -> None:
    """Create the table `dead_letters`, and move the failed deletions to it."""
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letters"),
    )
    trigger = "CREATE TRIGGER move_dead_letters AFTER INSERT ON media_dead_letters"
    if op.get_bind().dialect.name == "sqlite":
        move = _MOVE.format(object="json_object", hash="nullif(lower(hex(content_hash)), '')")
        op.execute(f"{trigger} BEGIN {move} END")
    else:
        move = _MOVE.format(object="json_build_object", hash="encode(content_hash, 'hex')")
        op.execute(
            "CREATE FUNCTION move_dead_letters() RETURNS trigger LANGUAGE plpgsql"
            f" AS $$ BEGIN {move} RETURN NULL; END $$"
        )
        op.execute(f"{trigger} FOR EACH STATEMENT EXECUTE FUNCTION move_dead_letters()")
    # The trigger exists first: it waits for transactions that insert rows, which are moved here.
    for statement in move.split(";")[:2]:
        op.execute(statement)
