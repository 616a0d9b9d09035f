"""Listings of large folders, which workers remember, each for itself."""

from pathlib import Path

from running import IMAGES, running


def test_every_worker_shows_at_once_what_another_one_or_somebody_by_hand_has_changed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data/compute/many"
    folder.mkdir(parents=True)
    for number in range(1000):
        (folder / f"{number:04}.png").touch()

    with running(tmp_path, "--workers", "3") as server, server.client() as client:

        def shown(prefix: str) -> set[tuple[str, ...]]:
            """What several connections are told; which worker takes one is the kernel's choice."""
            found = set()
            for _ in range(6):
                with server.client() as another:
                    page = another.get(IMAGES, params={"prefix": f"many/{prefix}", "limit": 9})
                    found.add(tuple(page.json()))
            return found

        first = {tuple(f"many/{number:04}.png" for number in range(9))}
        assert shown("") == first
        for number in range(5):
            path = f"many/new-{number}.png"
            assert client.post(f"{IMAGES}/{path}", files={"file": b"x"}).status_code == 200
            assert shown("new") == {(path,)}
            (folder / "newer.png").touch()
            assert shown("new") == {(path, "many/newer.png")}
            (folder / "newer.png").unlink()
            assert client.delete(f"{IMAGES}/{path}").status_code == 200
            assert shown("new") == {()}
        folder.rename(folder.with_name("moved"))
        assert shown("") == {()}
        folder.with_name("moved").rename(folder)
        assert shown("") == first
