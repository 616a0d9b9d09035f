"""A deleted run is in the trash as a whole."""

import asyncio
from typing import Any

from grants.conftest import token
from pictures import picture
from trash.conftest import RUNS, TRASH, Site


async def publish(site: Site, folder: str = "runs/7", count: int = 3) -> dict[str, Any]:
    for number in range(count):
        await site.save(f"{folder}/{number}.png", f"{number}".encode())
    answer = await site.client.post(f"{RUNS}/{folder}/publish")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def delete(site: Site, folder: str = "runs/7", query: str = "") -> dict[str, Any]:
    answer = await site.client.delete(f"{RUNS}/{folder}{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_deleted_run_is_restored_with_the_same_manifest(site: Site) -> None:
    published = await publish(site)

    deleted = await delete(site)

    assert deleted | {"trash_id": ""} == {
        "folder": "runs/7", "marked": 3, "kept": 0, "newer": 0, "trash_id": "",
    }  # fmt: skip
    assert await site.stored() == []
    assert (await site.client.get(f"{RUNS}/runs/7")).status_code == 404
    (item,) = await site.items()
    assert (item["id"], item["path"], item["count"]) == (deleted["trash_id"], "runs/7", 3)
    assert item["content_type"] is None
    assert len(site.places()) == 4

    answer = await site.restore(deleted["trash_id"])

    assert (answer.status_code, answer.json()) == (
        200,
        {"id": deleted["trash_id"], "path": "runs/7"},
    )
    assert (await site.client.get(f"{RUNS}/runs/7")).json() == published
    assert [await site.read(f"runs/7/{number}.png") for number in range(3)] == [b"0", b"1", b"2"]
    assert (await site.items(), site.places()) == ([], [])
    again = await site.client.post(f"{RUNS}/runs/7/publish")
    assert (again.status_code, again.json()) == (200, published)


async def test_an_open_run_is_restored_without_a_manifest(site: Site) -> None:
    await site.save("open/a.png")
    trash_id = (await delete(site, "open"))["trash_id"]

    assert (await site.restore(trash_id)).status_code == 200

    assert await site.stored() == ["open/a.png"]
    assert (await site.client.get(f"{RUNS}/open")).json()["state"] == "open"


async def test_a_run_whose_name_is_taken_stays_in_the_trash_as_a_whole(site: Site) -> None:
    published = await publish(site)
    trash_id = (await delete(site))["trash_id"]
    await site.save("runs/7/1.png", b"another")

    answer = await site.restore(trash_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "path_conflict")
    assert await site.stored() == ["runs/7/1.png"]
    assert len(site.places()) == 4
    await site.client.delete("/api/v1/storage/images/runs/7/1.png?purge=true")
    assert (await site.restore(trash_id)).status_code == 200
    assert (await site.client.get(f"{RUNS}/runs/7")).json() == published


async def test_a_run_is_not_restored_to_another_path(site: Site) -> None:
    await publish(site)
    trash_id = (await delete(site))["trash_id"]

    answer = await site.restore(trash_id, "runs/8")

    assert answer.status_code == 422
    assert len(site.places()) == 4


async def test_a_run_can_be_purged(site: Site) -> None:
    await publish(site, "runs/7")
    await publish(site, "runs/8")
    deleted = await delete(site, "runs/7", "?purge=true")
    assert "trash_id" not in deleted
    assert site.places() == []
    trash_id = (await delete(site, "runs/8"))["trash_id"]

    answer = await site.client.delete(f"{TRASH}/{trash_id}")

    assert (answer.status_code, answer.json()["path"]) == (200, "runs/8")
    assert (await site.items(), site.places()) == ([], [])


async def test_the_prefix_of_a_token_limits_runs_in_the_trash(site: Site) -> None:
    await publish(site)
    trash_id = (await delete(site))["trash_id"]
    for folder in ("runs/7/inside", "run", "runs/70"):
        site.client.headers["authorization"] = f"Bearer {token(folder=folder)}"
        assert await site.items() == []
        assert (await site.restore(trash_id)).status_code == 403
    site.client.headers["authorization"] = f"Bearer {token(folder='runs/7')}"
    assert [item["id"] for item in await site.items()] == [trash_id]
    assert (await site.restore(trash_id)).status_code == 200


async def test_an_image_that_the_library_records_in_place_is_kept(site: Site) -> None:
    await site.save("runs/7/a.png", picture())
    await site.save("runs/7/b.png")
    body = {"storage_key": "compute/runs/7/a.png", "relocate": False}
    answer = await site.client.post("/api/v1/media-resources/ingest", json=body)
    assert answer.status_code in (200, 201), answer.text

    deleted = await delete(site)

    assert (deleted["marked"], deleted["kept"]) == (1, 1)
    assert await site.stored() == ["runs/7/a.png"]
    assert len(site.places()) == 1


async def test_concurrent_restorations_restore_a_run_once(site: Site) -> None:
    published = await publish(site, count=8)
    trash_id = (await delete(site))["trash_id"]

    answers = await asyncio.gather(*(site.restore(trash_id) for _ in range(4)))

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses) <= {200, 404, 409, 503}
    assert (await site.client.get(f"{RUNS}/runs/7")).json() == published
    assert len(await site.stored()) == 8
