"""A signed URL is ours to check, so it leads to us, whoever serves the bytes."""

from r2.conftest import Running


async def test_a_signed_url_leads_to_us_and_from_there_to_the_cdn(running: Running) -> None:
    async with running() as client:
        images = "/api/v1/storage/images"
        await client.post(f"{images}/a b.png", files={"file": b"x"})
        signed = (await client.post("/api/v1/storage/signed-urls", json={"path": "a b.png"})).json()
        del client.headers["authorization"]

        answer = await client.get(signed["url"])

    assert signed["url"].startswith(f"http://127.0.0.1:8000{images}/a%20b.png?")
    assert answer.status_code == 302
    assert answer.headers["location"] == "https://cdn.example.com/compute/a%20b.png"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "private, no-store"
