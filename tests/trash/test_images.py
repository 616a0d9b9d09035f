"""Deleted images are in the trash, and can be restored."""

import uuid
from datetime import datetime, timedelta

import pytest

from grants.conftest import token
from trash.conftest import IMAGES, PNG, TRASH, Opens, Site, sha256_of


async def test_a_deleted_image_can_be_restored(site: Site) -> None:
    saved = await site.save("a/b.png")

    trash_id = await site.discard("a/b.png")

    assert await site.read("a/b.png") is None
    assert await site.stored() == []
    assert len(site.places()) == 1
    (item,) = await site.items()
    assert item["id"] == trash_id
    assert (item["path"], item["size"], item["content_type"], item["actor"], item["count"]) == (
        "a/b.png", len(PNG), "image/png", "user-7", None,
    )  # fmt: skip
    deleted, purged = (datetime.fromisoformat(item[name]) for name in ("deleted_at", "purge_at"))
    assert abs(purged - deleted - timedelta(days=7)) < timedelta(minutes=1)

    answer = await site.restore(trash_id)

    assert answer.status_code == 200, answer.text
    assert answer.json() | {"etag": ""} == saved | {"etag": ""}
    assert await site.read("a/b.png") == PNG
    head = await site.client.head(f"{IMAGES}/a/b.png")
    assert head.headers["etag"] == answer.json()["etag"]
    assert (await site.items(), site.places()) == ([], [])
    assert await site.query("SELECT * FROM media_deletions") == []


async def test_an_image_can_be_deleted_and_restored_again_and_again(site: Site) -> None:
    await site.save("a.png")
    for _ in range(3):
        assert (await site.restore(await site.discard("a.png"))).status_code == 200
    assert await site.read("a.png") == PNG


async def test_an_image_can_be_restored_to_another_path(site: Site) -> None:
    await site.save("a.png")
    trash_id = await site.discard("a.png")

    answer = await site.restore(trash_id, "new/ä b.png")

    assert (answer.status_code, answer.json()["path"]) == (200, "new/ä b.png")
    assert await site.read("new/ä b.png") == PNG
    assert await site.read("a.png") is None


async def test_a_restoration_never_replaces_an_image(site: Site) -> None:
    await site.save("a.png")
    trash_id = await site.discard("a.png")
    await site.save("a.png", b"another")

    answer = await site.restore(trash_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "path_conflict")
    assert await site.read("a.png") == b"another"
    assert [item["id"] for item in await site.items()] == [trash_id]
    assert (await site.restore(trash_id, "b.png")).status_code == 200
    assert await site.read("b.png") == PNG


async def test_many_are_deleted_and_restored_with_a_result_for_each(site: Site) -> None:
    for name in ("a.png", "b.png"):
        await site.save(name, name.encode())
    paths = ["a.png", "none.png", "b.png"]
    deleted = (await site.client.post("/api/v1/storage/delete", json={"paths": paths})).json()
    first, missing, second = deleted["results"]
    assert (missing["code"], "trash_id" in missing) == ("not_found", False)
    await site.save("b.png", b"another")
    unknown = str(uuid.uuid4())

    ids = [first["trash_id"], second["trash_id"], unknown, "../../etc/passwd"]
    answer = await site.client.post(f"{TRASH}/restore", json={"ids": ids})

    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["id"] for result in results] == ids
    assert results[0] == {"id": ids[0], "path": "a.png"}
    codes = [result.get("code") for result in results]
    assert codes == [None, "path_conflict", "trash_not_found", "invalid_parameter"]
    assert await site.read("a.png") == b"a.png"


async def test_a_purge_skips_the_trash(site: Site) -> None:
    for name in ("a.png", "b.png", "c.png"):
        await site.save(name)

    one = await site.client.delete(f"{IMAGES}/a.png?purge=true")
    many = await site.client.post("/api/v1/storage/delete?purge=true", json={"paths": ["b.png"]})
    odd = await site.client.delete(f"{IMAGES}/c.png?purge=perhaps")

    assert (one.json(), many.json()["results"]) == ({"path": "a.png"}, [{"path": "b.png"}])
    assert odd.status_code == 422
    assert await site.stored() == ["c.png"]
    assert site.places() == []


async def test_what_is_deleted_for_good_cannot_be_restored(site: Site) -> None:
    await site.save("a.png")
    trash_id = await site.discard("a.png")

    answer = await site.client.delete(f"{TRASH}/{trash_id}")

    assert (answer.status_code, answer.json()) == (200, {"path": "a.png"})
    assert (await site.items(), site.places()) == ([], [])
    assert (await site.restore(trash_id)).status_code == 404
    assert (await site.client.delete(f"{TRASH}/{trash_id}")).status_code == 404


async def test_conditions_of_a_deletion_hold(site: Site) -> None:
    etag = (await site.save("a.png"))["etag"]
    await site.save("a.png", b"another")

    answer = await site.client.delete(f"{IMAGES}/a.png", headers={"If-Match": etag})

    assert answer.status_code == 412
    assert (await site.items(), site.places()) == ([], [])
    assert (await site.client.delete(f"{IMAGES}/none.png")).status_code == 404
    assert await site.query("SELECT * FROM media_trash") == []


async def test_the_trash_is_listed_in_pages_newest_first(site: Site) -> None:
    ids = []
    for number in range(5):
        await site.save(f"{number % 2}/{number}.png")
        ids.append(await site.discard(f"{number % 2}/{number}.png"))

    found: list[str] = []
    cursor = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await site.client.get(TRASH, params=query)).json()
        assert len(page["items"]) <= 2
        found += [item["id"] for item in page["items"]]
        if (cursor := page["next"]) is None:
            break

    assert found == ids[::-1]
    assert [item["path"] for item in await site.items(prefix="1/")] == ["1/3.png", "1/1.png"]
    assert [item["path"] for item in await site.items(prefix="0/2")] == ["0/2.png"]
    assert (await site.client.get(TRASH, params={"cursor": "x"})).status_code == 422


async def test_pending_deletions_end_in_the_trash(site: Site) -> None:
    saved = await site.save("a.png", expires_in="1h")
    assert saved["expires_at"] is not None
    trash_id = await site.discard("a.png")
    assert await site.query("SELECT reason FROM media_deletions") == [("trash",)]

    await site.restore(trash_id)

    assert await site.query("SELECT * FROM media_deletions") == []
    facts = (await site.client.get("/api/v1/storage/metadata/a.png")).json()
    assert facts["expires_at"] is None


@pytest.mark.parametrize("scopes", [["storage:read"], ["storage:write"], ["storage:delete"]])
async def test_each_operation_needs_its_scopes(site: Site, scopes: list[str]) -> None:
    await site.save("a.png")
    trash_id = await site.discard("a.png")
    site.client.headers["authorization"] = f"Bearer {token(scopes=scopes)}"  # type: ignore[arg-type]

    statuses = [
        (await site.client.get(TRASH)).status_code,
        (await site.restore(trash_id)).status_code,
        (await site.client.post(f"{TRASH}/restore", json={"ids": [trash_id]})).status_code,
        (await site.client.delete(f"{TRASH}/{trash_id}")).status_code,
    ]

    reads, deletes = scopes == ["storage:read"], scopes == ["storage:delete"]
    assert statuses == [200 if reads else 403, 403, 403, 200 if deletes else 403]


async def test_the_prefix_of_a_token_limits_the_trash(site: Site) -> None:
    ids = {}
    for path in ("ours/a.png", "theirs/a.png"):
        await site.save(path)
        ids[path] = await site.discard(path)
    site.client.headers["authorization"] = f"Bearer {token(folder='ours')}"

    assert [item["path"] for item in await site.items()] == ["ours/a.png"]
    assert (await site.client.get(TRASH, params={"prefix": "theirs/"})).status_code == 403
    theirs = ids["theirs/a.png"]
    assert (await site.restore(theirs)).status_code == 403
    assert (await site.client.delete(f"{TRASH}/{theirs}")).status_code == 403
    many = (await site.client.post(f"{TRASH}/restore", json={"ids": [theirs]})).json()
    assert many["results"][0]["code"] == "forbidden"
    assert (await site.restore(ids["ours/a.png"], "theirs/b.png")).status_code == 403
    assert (await site.restore(ids["ours/a.png"], "ours/b.png")).status_code == 200


async def test_forged_ids_lead_nowhere(site: Site) -> None:
    await site.save("a.png")
    await site.discard("a.png")
    (place,) = site.places()

    for forged in (str(uuid.uuid4()), place, f"{uuid.UUID(place)}", "restore", "%2e%2e"):
        answer = await site.client.delete(f"{TRASH}/{forged}")
        assert answer.status_code in (404, 405, 422), forged
        assert (await site.restore(forged)).status_code in (404, 422), forged
    for path in (f"trash/{place}", f".stillroom/trash/{place}", place):
        assert (await site.client.get(f"{IMAGES}/{path}")).status_code in (404, 422)
    assert len(site.places()) == 1


async def test_without_a_setting_deletions_are_final(opens: Opens, site: Site) -> None:
    await site.save("a.png")
    async with opens(STILLROOM_TRASH="off") as plain:
        answer = await plain.client.delete(f"{IMAGES}/a.png")
        assert answer.json() == {"path": "a.png"}
        for refused in (
            await plain.client.get(TRASH),
            await plain.restore(str(uuid.uuid4())),
            await plain.client.delete(f"{TRASH}/{uuid.uuid4()}"),
            await plain.client.post(f"{TRASH}/restore", json={"ids": ["a"]}),
        ):
            assert (refused.status_code, refused.json()["code"]) == (501, "feature_off")
    assert site.places() == []


async def test_a_restored_image_has_the_same_facts_and_is_found(site: Site) -> None:
    saved = await site.save("a.png")
    await site.restore(await site.discard("a.png"))

    head = await site.client.head(f"{IMAGES}/a.png")

    assert head.headers["content-type"] == "image/png"
    assert saved["sha256"] == sha256_of(PNG)
    facts = (await site.client.get("/api/v1/storage/metadata/a.png")).json()
    assert (facts["sha256"], facts["size"]) == (saved["sha256"], len(PNG))
