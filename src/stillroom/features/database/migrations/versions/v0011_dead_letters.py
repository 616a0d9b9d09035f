"""Table for all dead letters (failed jobs), which replaces the table of failed deletions.

The old table is kept, because servers of the old version may still run during an upgrade. These
servers look in the old table for images that must not expire, because their deletion has failed.
Triggers therefore apply each insertion and deletion in either table to the other table.
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0011"
down_revision: Final = "0010"

_NEW: Final = """
    INSERT INTO media_failures (id, kind, payload, created_at, failed_at, attempts, last_error)
    SELECT {{row}}.id, 'deletion', {object}('storage_key', {{row}}.storage_key, 'save_id',
           {{row}}.save_id, 'reason', {{row}}.reason, 'content_hash', {hash}),
           {{row}}.created_at, {{row}}.failed_at, {{row}}.attempts, {{row}}.last_error
    {{rows}} WHERE NOT EXISTS (SELECT 1 FROM media_failures known WHERE known.id = {{row}}.id)
"""
# Old processes compute the hash of a row without one.
_OLD: Final = """
    INSERT INTO media_dead_letters
        (id, storage_key, save_id, reason, created_at, failed_at, attempts, last_error)
    SELECT NEW.id, {}, {}, {}, NEW.created_at, NEW.failed_at, NEW.attempts, NEW.last_error
    WHERE NEW.kind = 'deletion'
        AND NOT EXISTS (SELECT 1 FROM media_dead_letters known WHERE known.id = NEW.id)
"""


def upgrade() -> None:
    """Create the table `media_failures`, add the triggers, and copy the failed deletions."""
    op.create_table(
        "media_failures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_media_failures"),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    build, digest = "json_build_object", "encode({row}.content_hash, 'hex')"
    read = "NEW.payload ->> '{}'"
    if is_sqlite:
        build, digest = "json_object", "nullif(lower(hex({row}.content_hash)), '')"
        read = "json_extract(NEW.payload, '$.{}')"
    new = _NEW.format(object=build, hash=digest)
    old = _OLD.format(*map(read.format, ("storage_key", "save_id", "reason")))
    # The triggers exist first: they wait for transactions that insert rows, which are copied here.
    for table, event, body in (
        ("media_dead_letters", "INSERT", new.format(row="NEW", rows="")),
        ("media_dead_letters", "DELETE", "DELETE FROM media_failures WHERE id = OLD.id"),
        ("media_failures", "INSERT", old),
        ("media_failures", "DELETE", "DELETE FROM media_dead_letters WHERE id = OLD.id"),
    ):
        name = f"{table}_{event.lower()}"
        trigger = f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW"
        if is_sqlite:
            op.execute(f"{trigger} BEGIN {body}; END")
        else:
            op.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql"
                f" AS $$ BEGIN {body}; RETURN NULL; END $$"
            )
            op.execute(f"{trigger} EXECUTE FUNCTION {name}()")
    op.execute(new.format(row="failed", rows="FROM media_dead_letters failed"))
