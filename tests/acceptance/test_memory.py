"""Memory stays flat, whatever the size of an image."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from running import IMAGES, peak_bytes, running

pytestmark = pytest.mark.whole  # gibibytes

ENTRIES = "/api/v1/storage/entries"
GIB = 1024**3
MIB = 1024**2


def page_faults(pid: int) -> int:
    """Pages that the process was given so far: minflt of proc_pid_stat(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def load_what_is_loaded_late(client: httpx.Client) -> None:
    """The library's parts are loaded a second after the start, or when it is first asked."""
    assert client.get("/api/v1/media-resources").json() == []


def test_uploads_find_the_memory_of_those_before_them(tmp_path: Path) -> None:
    image = bytes(20 * MIB)

    def upload(times: int) -> None:
        for number in range(times):
            answer = client.post(f"{IMAGES}/{number}.bin", files={"file": image})
            assert answer.status_code == 200

    with running(tmp_path) as server, server.client() as client:
        upload(10)
        load_what_is_loaded_late(client)
        before = page_faults(server.pid)

        upload(20)

        # Given back each time, it was 1,400 to 2,500 pages an upload.
        assert page_faults(server.pid) - before < 20 * 200


def test_a_gibibyte_up_and_down_grows_the_server_by_less_than_8_mib(tmp_path: Path) -> None:
    piece = bytes(range(256)) * 4096
    begin = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    end = b"\r\n--B--\r\n"

    def body() -> Iterator[bytes]:
        yield begin
        for _ in range(GIB // len(piece)):
            yield piece
        yield end

    fields = {
        "Content-Type": "multipart/form-data; boundary=B",
        "Content-Length": str(GIB + len(begin) + len(end)),
    }
    with running(tmp_path, max_upload_bytes=str(GIB)) as server, server.client() as client:
        for _ in range(2):
            client.post(f"{IMAGES}/warm.bin", files={"file": bytes(4 * MIB)})
            client.get(f"{IMAGES}/warm.bin")
        load_what_is_loaded_late(client)
        before = peak_bytes(server.pid)

        saved = client.post(f"{IMAGES}/big.bin", content=body(), headers=fields)
        assert saved.json()["size"] == GIB
        with client.stream("GET", f"{IMAGES}/big.bin") as answer:
            assert sum(len(chunk) for chunk in answer.iter_raw(MIB)) == GIB

        growth = peak_bytes(server.pid) - before
        assert growth < 8 * MIB, f"grew by {growth / MIB:.1f} MiB"


def test_listing_many_images_takes_the_memory_of_one_page(tmp_path: Path) -> None:
    images = tmp_path / "data/compute/many"
    images.mkdir(parents=True)
    for number in range(50_000):
        (images / f"{number:06}.png").touch()

    # Without the sweeper, so that nothing else goes through them meanwhile.
    with running(tmp_path, sweep_interval_seconds="0") as server, server.client() as client:
        load_what_is_loaded_late(client)
        client.get(IMAGES, params={"limit": 100})
        client.get(ENTRIES, params={"limit": 100})
        before = peak_bytes(server.pid)

        ask: dict[str, str | int] = {"limit": 100, "start_after": "many/025000.png"}
        page = client.get(IMAGES, params=ask)
        assert page.json()[0] == "many/025001.png"
        assert httpx.URL(page.links["next"]["url"]).params["start_after"] == page.json()[-1]
        entries = client.get(ENTRIES, params=ask).json()
        assert [entry["path"] for entry in entries] == page.json()

        assert peak_bytes(server.pid) - before < 4 * MIB


def test_a_run_of_many_images_is_published_and_deleted_in_the_memory_of_one_page(
    tmp_path: Path,
) -> None:
    def publish_and_delete(run: str, images: int) -> None:
        for method, path in (
            ("POST", f"{run}/publish"),
            ("GET", run),
            ("POST", f"{run}/publish"),  # the same set again
        ):
            assert read(method, path, images) > images * 180, "the manifest"
        assert client.delete(run).json()["marked"] == images

    def read(method: str, path: str, images: int) -> int:
        form = {"json": {"expected": images}} if method == "POST" else {}
        with client.stream(method, path, **form) as answer:  # type: ignore[arg-type]  # a form
            assert answer.status_code == 200
            return sum(len(chunk) for chunk in answer.iter_raw())

    runs = {"few": 2000, "many": 90_000}
    for run, count in runs.items():
        images = tmp_path / "data/compute" / run
        images.mkdir(parents=True)
        for number in range(count):
            (images / f"{number:06}.png").touch()

    # Without the sweeper, so that nothing else goes through them meanwhile.
    with running(tmp_path, sweep_interval_seconds="0") as server, server.client() as client:
        client.timeout = 300
        load_what_is_loaded_late(client)
        few, many = (f"/api/v1/storage/runs/{run}" for run in runs)
        read("GET", many, runs["many"])  # while it is open: each image is looked at by some thread
        publish_and_delete(few, runs["few"])  # with all that is allocated once
        before = peak_bytes(server.pid)

        publish_and_delete(many, runs["many"])

        # It was 8 to 27 MiB for 30,000 images, and 10 for 90,000. A list of these would be 90.
        assert peak_bytes(server.pid) - before < 48 * MIB
