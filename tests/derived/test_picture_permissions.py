"""Who may see a picture: by token, by a signed URL, or anyone."""

import io
from datetime import timedelta

import pytest
from PIL import Image

from derived.conftest import Running, Store, halves
from in_process import IMAGES, JWT_SECRET
from pictures import encoded, picture
from stillroom.store.auth.tokens import mint_token

pytestmark = pytest.mark.slow


async def test_a_token_covers_pictures_as_it_covers_images(store: Store) -> None:
    await store.save("mine/a.png", picture())
    await store.save("yours/a.png", picture())
    life = timedelta(hours=1)
    reader = mint_token(JWT_SECRET, expires_in=life, scopes=["storage:read"], folder="mine")
    writer = mint_token(JWT_SECRET, expires_in=life, scopes=["storage:write"])

    for token, path, status in (
        (reader, "mine/a.png", 200),
        (reader, "yours/a.png", 403),
        (writer, "mine/a.png", 403),
        ("none", "mine/a.png", 401),
    ):
        store.client.headers["authorization"] = f"Bearer {token}"
        assert (await store.get(path, "width=64")).status_code == status
        headed = await store.client.head(f"{IMAGES}/{path}?width=64")
        assert headed.status_code == status
    del store.client.headers["authorization"]
    assert (await store.get("mine/a.png", "width=64")).status_code == 401
    assert (await store.get("mine/a.png", "width=none")).status_code == 401


async def test_public_pictures_are_public(running: Running) -> None:
    async with running(STILLROOM_PUBLIC_READ="true") as store:
        await store.save("a.png", picture())
        del store.client.headers["authorization"]

        answer = await store.get("a.png", "width=64")

        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=0, must-revalidate"


async def test_a_signed_url_covers_the_parameters(store: Store) -> None:
    await store.save("a.png", encoded(halves((600, 300))))
    square = {"width": 128, "height": 128, "fit": "cover", "format": "png"}
    sign = "/api/v1/storage/signed-urls"

    async def signed(**fields: object) -> str:
        answer = await store.client.post(sign, json={"path": "a.png", **fields})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["url"])

    picture_url, image_url = await signed(transform=square), await signed()
    many = await store.client.post(sign, json={"paths": ["a.png"], "transform": {"width": 64}})
    del store.client.headers["authorization"]

    made = await store.client.get(picture_url)
    assert Image.open(io.BytesIO(made.content)).size == (128, 128)
    assert made.headers["referrer-policy"] == "no-referrer"
    assert (await store.client.head(picture_url)).status_code == 200
    (other,) = many.json()["results"]
    made = await store.client.get(other["url"])
    assert Image.open(io.BytesIO(made.content)).size == (64, 32)
    for forged in (
        picture_url.replace("width=128", "width=256"),
        picture_url.replace("width=128&", ""),
        picture_url.replace("fit=cover", "fit=contain"),
        picture_url.replace("fit=cover", "fit=cover&quality=90"),
        picture_url + "&width=64",
        image_url.replace("?", "?width=128&"),
        image_url + "&width=128",
    ):
        assert (await store.client.get(forged)).status_code == 401, forged


@pytest.mark.parametrize(
    "transform", [{"width": 0}, {"width": "64"}, {"fit": "fill"}, {"quality": 101}, {"crop": 1}]
)
async def test_a_transform_that_no_get_would_take_is_not_signed(
    store: Store, transform: dict[str, object]
) -> None:
    answer = await store.client.post(
        "/api/v1/storage/signed-urls", json={"path": "a.png", "transform": transform}
    )

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", "transform"]
