"""How long everybody else waits while a server is attacked; a part of `make bench-half-open`.

Starts `stillroom serve` as shipped and GETs an image of 100 KB, one after another on one kept
connection: alone, then while another process does what once held the server for seconds: requests
without end on one connection after the other whose answers nobody reads (pipelining), one picture
of thousands of scans asked for in every size (picture), lists of 4 MiB of names that mean nothing,
eight at once (JSON), small files whose metadata take endless work, saved and read (metadata), and
eight uploads of 1 MB in chunks of one byte (chunks). Prints the times of each, and by how much the
server's memory grew. The goal is a p99 under 100 ms, and an answer to a save of a hostile file
within a second.
"""

import contextlib
import io
import itertools
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from typing import Final

import click
import httpx
from PIL import Image

from benchmarks.half_open import IMAGE, IMAGE_BYTES, WARM_UP_GETS, Times, serving, timed_gets
from benchmarks.processes import forget_peak, peak_bytes
from generation.hostile_files import HOSTILE

GETS: Final = 600
GOAL_S: Final = 0.1
SAVE_GOAL_S: Final = 1.0

_LEAD_S: Final = 1.0
"""An attack goes on for so long before anything is timed."""

_PIPELINES: Final = 40
_PIPELINED: Final = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000
_LISTS: Final = 8
_NAMES: Final = 426_000
_SCANS: Final = 6000
_PICTURES: Final = 16
_PICTURE: Final = "/api/v1/storage/images/scans.jpg"
_LIST: Final = "/api/v1/storage/delete"
_FILES: Final = "/api/v1/storage/images/hostile"

_SAVERS: Final = 4
_HOSTILE: Final = tuple(made() for made in HOSTILE.values())
_UPLOADS: Final = 8
_UPLOAD_BYTES: Final = 1_000_000
_CHUNKED_HEAD: Final = (
    "POST {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: multipart/form-data; boundary=B\r\nTransfer-Encoding: chunked\r\n\r\n"
)

Attack = Callable[[int, str], None]


def of_scans(number: int) -> bytes:
    """A progressive JPEG of a megapixel whose last scan comes again and again."""
    out = io.BytesIO()
    Image.effect_noise((1024, 1024), 9).save(out, "JPEG", progressive=True, quality=5)
    whole = out.getvalue()
    last = whole.rindex(b"\xff\xda")
    empty = whole[last : last + 10] + b"\x00" * 4
    return whole[:-2] + empty * number + whole[-2:]


def pipelining(port: int, _: str) -> None:
    """Send requests for ever, read nothing; a connection that is closed is opened again."""

    def flood() -> None:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as one:
                one.settimeout(5)
                while True:
                    one.sendall(_PIPELINED)

    _at_once(_PIPELINES, flood)


def picture(port: int, token: str) -> None:
    """Ask for each size and quality of one picture, a new connection when one is done."""
    asked = itertools.cycle(
        f"{_PICTURE}?width={width}&height={height}&quality={quality}&format={form}"
        for quality in range(10, 101, 10)
        for width, height in itertools.product((64, 128, 256, 512, 1024, 2048), repeat=2)
        for form in ("webp", "jpeg")
    )

    def ask() -> None:
        with _client(port, token) as client:
            for target in asked:
                with contextlib.suppress(httpx.TransportError):
                    client.get(target)

    _at_once(_PICTURES, ask)


def lists(port: int, token: str) -> None:
    """Post lists of names that mean nothing."""
    body = ("{" + ",".join(f'"{number}":0' for number in range(_NAMES)) + "}").encode()[:4_194_300]

    def post() -> None:
        with _client(port, token) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    client.post(_LIST, content=body, headers={"Content-Type": "application/json"})

    _at_once(_LISTS, post)


def metadata(port: int, token: str) -> None:
    """Save each of the hostile files and read its metadata, again and again."""
    numbers = itertools.count()

    def save_and_read() -> None:
        with _client(port, token) as client:
            while True:
                number = next(numbers)
                with contextlib.suppress(httpx.TransportError):
                    client.post(f"{_FILES}/{number}.png", files=_upload(number))
                    client.get(f"/api/v1/storage/metadata/hostile/{number}.png")

    _at_once(_SAVERS, save_and_read)


def timed_saves(client: httpx.Client) -> list[float]:
    """How long the answer to a save of each hostile file took, in seconds."""
    taken = []
    for number in range(len(_HOSTILE)):
        began = time.perf_counter()
        client.post(f"{_FILES}/timed/{number}.png", files=_upload(number)).raise_for_status()
        taken.append(time.perf_counter() - began)
    return taken


def _upload(number: int) -> dict[str, bytes]:
    return {"file": _HOSTILE[number % len(_HOSTILE)]}


def chunks(port: int, token: str) -> None:
    """Save an image in chunks of one byte, all of it sent at once, again and again."""
    form = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    form += os.urandom(_UPLOAD_BYTES) + b"\r\n--B--\r\n"
    chunked = bytearray(b"1\r\nX\r\n" * len(form))
    chunked[3::6] = form
    body = bytes(chunked) + b"0\r\n\r\n"

    def save() -> None:
        for number in itertools.count():
            target = f"/api/v1/storage/images/{threading.get_ident()}/{number}.bin"
            head = _CHUNKED_HEAD.format(target=target, token=token).encode()
            with socket.create_connection(("127.0.0.1", port)) as one:
                one.sendall(head + body)
                if not one.recv(65_536).startswith(b"HTTP/1.1 200"):
                    raise SystemExit("an upload in chunks was refused")

    _at_once(_UPLOADS, save)


ATTACKS: Final[dict[str, Attack]] = {
    "pipelining": pipelining,
    "scans": picture,
    "names": lists,
    "metadata": metadata,
    "chunks": chunks,
}


def _client(port: int, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)


def _at_once(count: int, act: Callable[[], None]) -> None:
    threads = [threading.Thread(target=act, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _begin(attack: Attack, begun: Event, port: int, token: str) -> None:
    begun.set()
    attack(port, token)


@contextlib.contextmanager
def under(attack: Attack, port: int, token: str) -> Iterator[None]:
    """While a process of its own does that."""
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    attacker = spawn.Process(target=_begin, args=(attack, begun, port, token), daemon=True)
    attacker.start()
    try:
        begun.wait()
        time.sleep(_LEAD_S)
        yield
        if not attacker.is_alive():
            raise SystemExit("the attack ended by itself")
    finally:
        attacker.kill()
        attacker.join()


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Measure and print; a miss of the goal ends with 1. NAMES: of attacks, else all."""
    missed = []
    attacks = {name: attack for name, attack in ATTACKS.items() if name in (names or ATTACKS)}
    click.echo(f"GET of {IMAGE_BYTES:,} bytes, {GETS} times, one after another")
    for name, attack in {"alone": None, **attacks}.items():
        with serving() as (port, token, root), _client(port, token) as client:
            client.post(IMAGE, files={"file": os.urandom(IMAGE_BYTES)}).raise_for_status()
            client.post(_PICTURE, files={"file": of_scans(_SCANS)}).raise_for_status()
            timed_gets(client, WARM_UP_GETS)
            forget_peak(root)
            memory = peak_bytes(root)
            with under(attack, port, token) if attack else contextlib.nullcontext():
                taken = timed_gets(client, GETS)
                saves = timed_saves(client) if attack is metadata else []
            grown = (peak_bytes(root) - memory) / 1024**2
        times, most = Times.of(taken), max(taken) * 1e3
        click.echo(f"  {name:12}{times}   most {most:8.2f} ms   memory +{grown:.0f} MiB")
        if times.p99 > GOAL_S:
            missed.append(name)
        if saves:
            click.echo(f"    answers to saves{Times.of(saves)}   most {max(saves) * 1e3:8.2f} ms")
            missed += ["saves"] * (max(saves) > SAVE_GOAL_S)
    if missed:
        raise SystemExit(f"slower than the goal: {', '.join(missed)}")


if __name__ == "__main__":
    main()
