"""Grants that are refused: expired, forged or foreign ones, and terms that are not permitted."""

import time
from typing import Any

import pytest

from grants.conftest import GRANTS, PNG, Opens, Site, token
from waiting import eventually

pytestmark = pytest.mark.anyio


async def test_an_expired_grant_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = await site.upload("a.png")
    spent = await site.upload("b.png")
    completed = await site.complete(spent)
    assert completed.status_code == 200

    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda now=time.time: now() + 2 * 3600)
        answer = await site.complete(grant)
        again = await site.complete(spent)

    assert answer.status_code == 403
    assert answer.json()["code"] == "grant_expired"
    assert not await site.exists("a.png")
    assert again.content == completed.content


async def test_an_upload_with_an_expired_grant_is_refused(site: Site) -> None:
    grant = await site.grant("a.png", expires_in=1)

    async def is_refused() -> bool:
        return (await site.put(grant)).status_code in (400, 403)

    await eventually(is_refused)


async def test_forged_grants_are_refused(site: Site) -> None:
    text = (await site.upload("a.png"))["grant"]
    for forged in (
        "",
        "x",
        "?",
        text[:-1],
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        text[:-43] + "A" * 43,
        text.replace("size=2056", "size=2057"),
        text.replace("path=a.png", "path=b.png"),
        text.replace("path=a.png", "path=..%2Fa.png"),
        text.replace("?", "?create_only=True&"),
        text.replace("expires=1", "expires=9"),
        text.replace("?", "x?"),
        text + "x",
        text + "&x=y",
    ):
        assert forged != text
        answer = await site.complete(forged)
        assert answer.status_code == 403, forged
        assert answer.json()["code"] == "grant_invalid"
    assert not await site.exists("a.png")


async def test_the_grant_of_another_store_is_refused(opens: Opens, site: Site) -> None:
    grant = await site.upload("a.png")
    async with opens(STILLROOM_JWT_SECRET="o" * 32) as other:
        answer = await other.complete(grant)
    assert (answer.status_code, answer.json()["code"]) == (403, "grant_invalid")


async def test_a_token_may_grant_uploads_below_its_prefix_only(site: Site) -> None:
    def ask(path: str, **claims: Any) -> Any:
        fields = {"authorization": f"Bearer {token(**claims)}"}
        return site.client.post(GRANTS, json={"path": path, "size": 1}, headers=fields)

    assert (await ask("a/b.png", folder="a")).status_code == 200
    for path in ("ab.png", "b/a.png", "a"):
        assert (await ask(path, folder="a")).status_code == 403, path
    assert (await ask("a.png", scopes=["storage:read"])).status_code == 403
    anonymous = await site.client.post(
        GRANTS, json={"path": "a", "size": 1}, headers={"authorization": ""}
    )
    assert anonymous.status_code == 401


@pytest.mark.parametrize(
    ("terms", "status"),
    [
        ({"size": 0}, 422),
        ({"size": -1}, 422),
        ({"size": True}, 422),
        ({"size": "1"}, 422),
        ({"size": 1.5}, 422),
        ({"size": 1024**3}, 200),
        ({"size": 1024**3 + 1}, 413),
        ({"size": 10**30}, 413),
        ({"path": "../a"}, 422),
        ({"path": "a//b"}, 422),
        ({"path": ""}, 422),
        ({"path": "a/.run.json"}, 422),
        ({"path": "a\x00"}, 422),
        ({"content_type": "text/plain"}, 422),
        ({"content_type": "image/png\r\nx: y"}, 422),
        ({"sha256": "A" * 64}, 422),
        ({"sha256": "a" * 63}, 422),
        ({"if_none_match": '"etag"'}, 422),
        ({"expires_in": 0}, 422),
        ({"expires_in": 7 * 24 * 3600 + 1}, 422),
        ({"expires_after": "soon"}, 422),
        ({"expires_after": "11y"}, 422),
        ({"more": 1}, 422),
    ],
)
async def test_terms_are_checked(site: Site, terms: dict[str, object], status: int) -> None:
    answer = await site.client.post(GRANTS, json={"path": "a.png", "size": 1, **terms})

    assert answer.status_code == status, answer.text


async def test_the_limit_is_a_setting(opens: Opens) -> None:
    async with opens(STILLROOM_MAX_GRANT_BYTES="2") as small:
        assert (await small.ask("a", 2)).status_code == 200
        assert (await small.ask("a", 3)).status_code == 413


async def test_the_limit_of_uploads_by_form_does_not_apply(opens: Opens, site: Site) -> None:
    async with opens(STILLROOM_MAX_UPLOAD_BYTES="10") as small:
        grant = await small.upload("a.png")
        assert (await small.complete(grant)).status_code == 200
    assert await site.read("a.png") == PNG
