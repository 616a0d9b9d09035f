"""Table `media_run_publications`: the manifest that was last reported for each published run.

A transaction that changes a row reports the publication. If a process crashes after it has written
a manifest, the client gets no response, and the repeated request reports the publication.
"""

import itertools
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from stillroom.features.database.changes import Change
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into, table_of
from stillroom.features.runs.tables import run_publications
from stillroom.paths import ImagePath, KeyPrefix, StorageKey, image_entry
from stillroom.store import causes


class RunPublicationRows(Rows):
    """Database rows of the published runs."""

    async def note(self, folder: ImagePath, save_id: str, count: int) -> None:
        """Report that a run was published, unless this version of its manifest was reported."""
        key = KeyPrefix.of_folder(folder).text
        known = sa.select(run_publications.c.save_id).where(run_publications.c.folder == key)
        if [row.save_id for row in await self._read(known)] == [save_id]:
            return
        async with self._engine.writing() as connection:
            insert = insert_into(connection, run_publications).values(folder=key, save_id=save_id)
            changed = await connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[run_publications.c.folder],
                    set_={"save_id": insert.excluded.save_id},
                    where=run_publications.c.save_id != insert.excluded.save_id,
                ).returning(run_publications.c.folder)
            )
            if changed.one_or_none() is not None:
                change = Change(
                    "run.published",
                    folder.text,
                    actor=causes.current.get().actor,
                    data={"count": count},
                )
                await self._engine.note_written(connection, change)


def find_runs(connection: sa.Connection, keys: Iterable[StorageKey]) -> Mapping[StorageKey, str]:
    """Return the published runs of those images that are in the folder of a published run."""
    parents = {key: _parents(key.text) for key in keys}
    wanted = {(folder,) for folders in parents.values() for folder in folders}
    folders = sa.select(table_of(connection, ["folder"], wanted).c.folder)
    found = sa.select(run_publications.c.folder).where(run_publications.c.folder.in_(folders))
    published = {*connection.execute(found).scalars()}
    runs = {key: published.intersection(folders) for key, folders in parents.items()}
    return {key: image_entry(min(run)).rstrip("/") for key, run in runs.items() if run}


def _parents(key: str) -> list[str]:
    """Return the prefixes of all folders that contain a key."""
    names = key.split("/")[:-1]
    return [*itertools.accumulate(f"{name}/" for name in names)]
