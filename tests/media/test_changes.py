"""Deletion, changes and listing of resources."""

import dataclasses
import uuid

import pytest
import sqlalchemy as sa

from media.library import GRACE, Library, key
from pictures import picture
from stillroom.errors import ResourceNotFound, ResourceProtected
from stillroom.features.database.engine import migrating
from stillroom.features.library.resource import Change, Mark, MediaResource, ResourceQuery
from stillroom.features.library.rows.tables import deletions, resources
from stillroom.paths import KeyPrefix


async def test_a_deleted_resource_is_out_of_the_library_and_its_bytes_are_marked(
    library: Library,
) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")

    await library.service.delete(resource.id)

    for again in (library.service.find, library.service.delete):
        with pytest.raises(ResourceNotFound):
            await again(resource.id)
    assert (await library.service.page(ResourceQuery())).resources == []
    assert (resource.storage_key.text, resource.save_id) in library.marked()
    assert await library.read(resource.storage_key) == picture()


@pytest.mark.pairs
async def test_equal_bytes_cancel_a_deletion_that_is_due(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)

    again = await library.ingest("a.png")

    assert again == resource
    assert await library.service.find(resource.id) == resource
    assert [marked for marked, _ in library.marked()] == ["compute/a.png"]


async def test_a_deletion_that_the_sweeper_has_begun_is_not_cancelled(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)
    ours = deletions.c.resource_id == resource.id
    with migrating(library.config) as connection:  # as the sweeper does it: docs/adr/0012
        connection.execute(sa.update(deletions).where(ours).values(claimed_by=uuid.uuid4()))
        connection.execute(sa.delete(resources).where(resources.c.id == resource.id))

    again = await library.ingest("a.png")

    assert again.id != resource.id
    assert (resource.storage_key.text, resource.save_id) in library.marked()
    await library.meddled.storage.delete(resource.storage_key)


async def test_what_was_recorded_in_place_only_leaves_the_library(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png", relocate=False)

    await library.service.delete(resource.id)

    assert library.table(resources) == library.marked() == []
    assert await library.read(key("a.png")) == picture()


async def test_a_protected_resource_is_not_deleted(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.change(resource.id, Change(protected=True))

    with pytest.raises(ResourceProtected):
        await library.service.delete(resource.id)

    await library.service.change(resource.id, Change(protected=False))
    await library.service.delete(resource.id)


# Reading and changing


async def test_only_what_a_change_names_is_changed(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")

    await library.service.change(resource.id, Change(caption="Kätzchen 🐈", alt_text="a"))
    changed = await library.service.change(resource.id, Change(alt_text=None))

    assert changed == dataclasses.replace(resource, caption="Kätzchen 🐈")
    assert await library.service.change(resource.id, Change()) == changed
    with pytest.raises(ResourceNotFound):
        await library.service.change(uuid.uuid4(), Change(caption="x"))


async def test_pages_are_newest_first_and_complete(library: Library) -> None:
    made = []
    for number in range(5):
        await library.save("a.png", picture(number))
        made.append(await library.ingest("a.png"))

    seen: list[MediaResource] = []
    after, more = None, True
    while more:
        page = await library.service.page(ResourceQuery(after=after, limit=2))
        seen += page.resources
        after, more = seen[-1].id, page.more

    assert seen == sorted(made, key=lambda resource: resource.id, reverse=True)


async def test_pages_are_filtered(library: Library) -> None:
    await library.save("a", picture(1))
    await library.save("b", picture(1, "JPEG"))
    png, jpeg = await library.ingest("a"), await library.ingest("b")

    async def found(query: ResourceQuery) -> list[MediaResource]:
        return list((await library.service.page(query)).resources)

    assert await found(ResourceQuery(content_type="image/jpeg")) == [jpeg]
    assert await found(ResourceQuery(content_hash=png.content_hash)) == [png]
    assert await found(ResourceQuery(resource_type="video")) == []
    assert await found(ResourceQuery(source_keys=[key("a")])) == [png]
    assert await found(ResourceQuery(source_keys=[key("b"), key("a")])) == [jpeg, png]
    assert await found(ResourceQuery(source_keys=[key("c")])) == []
    assert await found(ResourceQuery(source_prefix=KeyPrefix("compute/"))) == [jpeg, png]
    assert await found(ResourceQuery(source_prefix=KeyPrefix("compute/b"))) == [jpeg]
    assert await found(ResourceQuery(source_prefix=KeyPrefix("compute/B"))) == []
    assert await found(ResourceQuery(source_prefix=KeyPrefix("compute/b"), limit=1)) == [jpeg]
    assert await found(ResourceQuery(created_before=jpeg.created_at)) == [png]
    assert await found(ResourceQuery(created_from=jpeg.created_at)) == [jpeg]


async def test_the_same_save_is_marked_once(library: Library) -> None:
    rows = await library.database.rows()
    await library.save("a.png", picture())
    first = await library.ingest("a.png")
    (mark,) = library.table(deletions)

    again = Mark(key("a.png"), mark.save_id, "relocated", mark.due_at + GRACE)
    await rows.resources.keep(first, source=again)

    assert [row.due_at for row in library.table(deletions)] == [mark.due_at]
