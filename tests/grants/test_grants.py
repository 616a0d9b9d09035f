"""Uploads with grants, the same on a disk and in a bucket."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from generation.carriers import png
from grants.conftest import IMAGES, PNG, Opens, Site, checksum_of, sha256_of, token
from stillroom.errors import BackendUnavailable
from stillroom.features.library.rows.deletions import DeletionRows
from waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_file_is_uploaded_without_a_token_and_becomes_an_image(site: Site) -> None:
    before = time.time()
    answer = await site.ask("cats/tom & jérôme.png", len(PNG), content_type="image/png")
    grant = answer.json()

    assert answer.headers["cache-control"] == "no-store"
    assert grant.keys() == {"method", "url", "headers", "grant", "expires_at"}
    assert grant["method"] == "PUT"
    ends = datetime.fromisoformat(grant["expires_at"]).timestamp()
    assert before + 3598 < ends < time.time() + 3602
    assert (await site.put(grant)).status_code == 200
    assert not await site.exists("cats/tom%20%26%20j%C3%A9r%C3%B4me.png")

    completed = await site.complete(grant)

    assert completed.status_code == 200, completed.text
    saved = completed.json()
    assert saved["path"] == "cats/tom & jérôme.png"
    assert (saved["size"], saved["content_type"]) == (len(PNG), "image/png")
    assert await site.read("cats/tom%20%26%20j%C3%A9r%C3%B4me.png") == PNG
    assert site.uploads() == []


async def test_the_answer_is_that_of_a_save(site: Site) -> None:
    grant = await site.upload("a.png", sha256=sha256_of(PNG))

    completed = (await site.complete(grant)).json()
    saved = (await site.save("b.png")).json()

    assert completed.keys() == saved.keys()
    assert completed["sha256"] == saved["sha256"] == sha256_of(PNG)
    assert completed["url"] == saved["url"].replace("b.png", "a.png")
    found = await site.client.head(f"{IMAGES}/a.png")
    assert found.headers["etag"] == completed["etag"]
    assert found.headers["content-type"] == "image/png"


async def test_headers_that_are_signed_bind_the_upload(site: Site) -> None:
    grant = await site.grant("a.png", content_type="image/png", sha256=sha256_of(PNG))

    headers = {name.lower(): value for name, value in grant["headers"].items()}

    assert headers["content-type"] == "image/png"
    assert headers["content-disposition"] == "attachment"
    assert headers["if-none-match"] == "*"
    assert headers["x-amz-checksum-sha256"] == checksum_of(PNG)
    assert checksum_of(PNG) not in grant["url"]
    for name in headers:
        if name != "content-length":
            others = {key: text for key, text in headers.items() if key != name}
            assert (await site.put(grant, headers=others)).status_code == 403, name
    wrong = await site.put(grant, headers={**headers, "content-type": "text/html"})
    assert wrong.status_code == 403
    assert site.uploads() == []


@pytest.mark.parametrize("declared", [None, "text/html", "image/svg+xml"])
async def test_no_upload_has_a_type_in_which_a_browser_runs_code(
    site: Site, declared: str | None
) -> None:
    page = b"<!DOCTYPE html><script>alert(1)</script>"
    grant = await site.grant("a.html", page, content_type=declared)

    assert grant["headers"]["Content-Type"] == "application/octet-stream"
    assert grant["headers"]["Content-Disposition"] == "attachment"


async def test_a_second_upload_is_refused_and_changes_nothing(site: Site) -> None:
    grant = await site.upload("a.png")

    assert (await site.put(grant)).status_code == 412
    assert (await site.put(grant, PNG[:-1] + b"x")).status_code == 412

    assert (await site.complete(grant)).status_code == 200
    assert await site.read("a.png") == PNG


async def test_completion_can_be_repeated_and_answers_the_same(site: Site) -> None:
    grant = await site.upload("a.png", sha256=sha256_of(PNG), expires_after="7d")

    first, second, third = [await site.complete(grant) for _ in range(3)]

    assert first.status_code == 200, first.text
    assert first.content == second.content == third.content
    assert first.json()["expires_at"] is not None


async def test_a_file_that_is_sent_again_after_the_completion_changes_nothing(site: Site) -> None:
    grant = await site.upload("a.png")
    first = await site.complete(grant)

    assert (await site.put(grant, PNG[:-1] + b"x")).status_code == 200
    second = await site.complete(grant)

    assert first.content == second.content
    assert await site.read("a.png") == PNG
    assert site.uploads() == []


async def test_completion_before_the_upload_is_a_conflict(site: Site) -> None:
    await site.save("b.png")
    for path in ("a.png", "b.png"):
        grant = await site.grant(path)
        for _ in range(2):
            answer = await site.complete(grant)
            assert (answer.status_code, answer.json()["code"]) == (409, "upload_missing")
            await site.save(path)


async def test_a_grant_whose_image_was_replaced_or_deleted_is_spent(site: Site) -> None:
    replaced, deleted = await site.upload("a.png"), await site.upload("b.png")
    for grant in (replaced, deleted):
        assert (await site.complete(grant)).status_code == 200
    await site.save("a.png", b"another one")
    assert (await site.client.delete(f"{IMAGES}/b.png")).status_code == 200

    for grant in (replaced, deleted):
        answer = await site.complete(grant)
        assert answer.status_code == 409
        assert answer.json()["code"] == "grant_spent"
    assert await site.read("a.png") == b"another one"
    assert not await site.exists("b.png")


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_no_process_completes_a_grant_twice(
    opens: Opens, site: Site, is_replaced: bool
) -> None:
    grant = await site.upload("a.png")
    assert (await site.complete(grant)).status_code == 200
    if is_replaced:
        await site.save("a.png", b"another one")
    else:
        assert (await site.client.delete(f"{IMAGES}/a.png")).status_code == 200

    async with opens() as other:
        for is_sent_again in (False, True):
            if is_sent_again:
                assert (await other.put(grant)).status_code == 200
            for one in (other, site):
                answer = await one.complete(grant)
                assert (answer.status_code, answer.json()["code"]) == (409, "grant_spent")

    if is_replaced:
        assert await site.read("a.png") == b"another one"
    else:
        assert not await site.exists("a.png")


async def test_a_repetition_needs_no_database_and_never_deletes_the_image(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = await site.upload("a.png", expires_after="7d")
    first = await site.complete(grant)

    async def fail(*_: object) -> None:
        raise BackendUnavailable("the database is away")

    monkeypatch.setattr(DeletionRows, "mark_save", fail)
    assert (await site.complete(grant)).content == first.content
    assert await site.read("a.png") == PNG


async def test_an_image_whose_end_cannot_be_scheduled_is_kept_for_a_repetition(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise BackendUnavailable("the database is away")

    grant = await site.upload("a.png", expires_after="7d")
    with monkeypatch.context() as away:
        away.setattr(DeletionRows, "mark_save", fail)
        assert (await site.complete(grant)).status_code == 503
    assert await site.read("a.png") == PNG

    assert (await site.complete(grant)).json()["expires_at"] is not None


async def test_another_process_completes_and_repeats(opens: Opens, site: Site) -> None:
    grant = await site.upload("a.png", expires_after="1h")
    async with opens() as other:
        first = await other.complete(grant)
        assert first.status_code == 200, first.text
        assert (await site.complete(grant)).content == first.content


@pytest.mark.parametrize("create_only", [False, True])
async def test_two_processes_may_complete_the_same_grant_at_once(
    opens: Opens, site: Site, create_only: bool
) -> None:
    terms: dict[str, Any] = {"if_none_match": "*"} if create_only else {}
    async with opens() as other:
        for number in range(5):
            grant = await site.upload(f"{number}.png", sha256=sha256_of(PNG), **terms)
            answers = await asyncio.gather(
                *(one.complete(grant) for one in (site, other, site, other))
            )
            assert [answer.status_code for answer in answers] == [200] * 4, answers[-1].text
            assert len({answer.content for answer in answers}) == 1
            assert await site.read(f"{number}.png") == PNG
    assert site.uploads() == []


async def test_create_only_holds_until_the_completion(site: Site) -> None:
    grant = await site.upload("a.png", if_none_match="*")
    await site.save("a.png", b"first")

    answer = await site.complete(grant)

    assert answer.status_code == 412
    assert answer.json()["code"] == "precondition_failed"
    assert await site.read("a.png") == b"first"
    await site.client.delete(f"{IMAGES}/a.png")
    assert (await site.complete(grant)).status_code == 200


async def test_of_two_grants_that_must_not_replace_one_is_completed(site: Site) -> None:
    grants = [await site.upload("a.png", if_none_match="*") for _ in range(4)]

    answers = await asyncio.gather(*map(site.complete, grants))

    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]


async def test_without_a_condition_the_image_is_replaced(site: Site) -> None:
    await site.save("a.png", b"old")
    grant = await site.upload("a.png")

    assert (await site.complete(grant)).status_code == 200

    assert await site.read("a.png") == PNG


@pytest.mark.parametrize("off_by", [-1, 1])
async def test_an_upload_of_another_size_is_refused(site: Site, off_by: int) -> None:
    grant = await site.grant("a.png")
    data = PNG[:off_by] if off_by < 0 else PNG + b"x"
    headers = {**grant["headers"]}
    if "Content-Length" in headers:
        headers["Content-Length"] = str(len(data))

    put = await site.put(grant, data, headers)

    assert 400 <= put.status_code < 500
    answer = await site.complete(grant)
    assert answer.json()["code"] == "upload_missing"
    assert not await site.exists("a.png")
    assert (await site.put(grant)).status_code == 200


async def test_an_upload_with_another_hash_is_refused(site: Site) -> None:
    grant = await site.grant("a.png", sha256=sha256_of(PNG))

    put = await site.put(grant, PNG[:-1] + b"x")

    assert put.status_code in (400, 422)
    assert site.uploads() == []
    assert (await site.complete(grant)).json()["code"] == "upload_missing"


async def test_an_upload_of_another_type_is_refused_and_leaves_nothing(site: Site) -> None:
    page = b"<!DOCTYPE html><script>alert(1)</script>"
    grant = await site.upload("a.png", page, content_type="image/png")

    answer = await site.complete(grant)

    assert answer.status_code == 415
    assert not await site.exists("a.png")
    assert site.uploads() == []


async def test_where_images_are_required_nothing_else_is_saved(opens: Opens, site: Site) -> None:
    async with opens(STILLROOM_REQUIRE_IMAGE="true") as strict:
        grant = await strict.upload("a.png", b"no image")
        answer = await strict.complete(grant)
        assert answer.status_code == 415
        assert strict.uploads() == []
        grant = await strict.upload("a.png")
        assert (await strict.complete(grant)).status_code == 200
    assert await site.read("a.png") == PNG


async def test_the_image_expires_after_the_lifetime_of_the_grant(site: Site) -> None:
    grant = await site.upload("a.png", expires_after="7d")

    saved = (await site.complete(grant)).json()

    ends = datetime.fromisoformat(saved["expires_at"])
    assert abs(ends - datetime.now(UTC) - timedelta(days=7)) < timedelta(minutes=1)
    found = (await site.client.get("/api/v1/storage/metadata/a.png")).json()
    assert datetime.fromisoformat(found["expires_at"]) == ends


async def test_the_image_is_found_by_the_search(site: Site) -> None:
    picture = png({"parameters": "a red fox\nSteps: 20, Sampler: Euler, Seed: 7, Size: 64x64"})
    grant = await site.upload("fox.png", picture)
    assert (await site.complete(grant)).status_code == 200

    async def is_found() -> bool:
        answer = await site.client.get("/api/v1/storage/search", params={"q": "fox"})
        return [item["path"] for item in answer.json()["items"]] == ["fox.png"]

    await eventually(is_found)


async def test_the_event_has_the_subject_of_the_token_that_asked_for_the_grant(site: Site) -> None:
    own = site.client.headers["authorization"]
    for name, subject in ("1.png", "jérôme"), ("2.png", None):
        site.client.headers["authorization"] = f"Bearer {token(subject=subject)}"
        grant = await site.upload(name)
        site.client.headers["authorization"] = own
        assert (await site.complete(grant)).status_code == 200
        assert (await site.complete(grant)).status_code == 200

    async def are_found() -> bool:
        events = (await site.client.get("/api/v1/storage/events")).json()["events"]
        told = {event["data"]["path"]: (event["type"], event["actor"]) for event in events}
        saved = "image.saved"
        return len(events) == 2 and told == {"1.png": (saved, "jérôme"), "2.png": (saved, None)}

    await eventually(are_found)


async def test_uploads_are_no_images(site: Site) -> None:
    await site.upload("a.png")

    listed = await site.client.get(IMAGES)

    assert listed.json() == []
    for path in (".stillroom/uploads/x", "../.stillroom", "temp/x"):
        assert not await site.exists(path)
