"""Many images with many tokens: the files that are read, and who asks for them."""

import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import httpx

from benchmarks.cases import Corpus, Mix
from benchmarks.pump import Traffic
from benchmarks.servers import SECRET, Server, image_bytes, index_images, minted, stillroom

FOLDERS: Final = 997
"""A prime: neighbours lie in different folders."""

_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:145.0) Gecko/20100101 Firefox/145.0",
    "python-httpx/0.28.1",
    "curl/8.14.1",
)


def make_corpora(folder: Path, corpora: Sequence[Corpus]) -> Path:
    """The folder of all images, each saved by a server; made once, and kept."""
    images, done = folder / "data" / "compute", folder / "done"
    if done.exists():
        return images
    shutil.rmtree(folder, ignore_errors=True)
    variables = {"STILLROOM_DURABILITY": "none"}
    with stillroom(folder / "data", variables=variables) as server, httpx.Client() as client:
        for corpus in corpora:
            saved = list(_paths(corpus))[: corpus.distinct or corpus.count]
            for path, size in zip(saved, _sizes(corpus), strict=False):
                server.save(path, image_bytes(size), client)
    for corpus in corpora:
        paths = [images / path for path in _paths(corpus)]
        for number in range(corpus.distinct or corpus.count, corpus.count):
            paths[number].parent.mkdir(parents=True, exist_ok=True)
            paths[number].hardlink_to(paths[number % corpus.distinct])
    done.touch()
    return images


def link_corpora(images: Path, server: Server) -> None:
    """Give a server all of them, as further names of the same files."""
    subprocess.run(["cp", "-al", f"{images}/.", str(server.folder)], check=True)  # noqa: S607
    if not server.name.startswith("nginx"):
        index_images(server)


def traffic_of(mix: Mix, seed: int, work: Path) -> Traffic:
    """Files with what is asked for, and by whom: the same for each server."""
    paths = work / f"{mix.corpus.name}.paths"
    heads = work / f"{mix.tokens}-{mix.agents}.heads"
    if not paths.exists():
        paths.write_text("\n".join(_paths(mix.corpus)) + "\n")
    if not heads.exists():
        heads.write_text("\n".join(_heads(mix)) + "\n")
    return Traffic(str(paths), str(heads), mix.exponent, seed)


def _paths(corpus: Corpus) -> Iterator[str]:
    for number in range(corpus.count):
        yield f"{corpus.name}/{number % FOLDERS}/{number}.png"


def _sizes(corpus: Corpus) -> Iterator[int]:
    chance = random.Random(corpus.name)  # noqa: S311  (the same images in every run)
    shares = [share for _, _, share in corpus.sizes]
    while True:
        ((smallest, largest, _),) = chance.choices(corpus.sizes, shares)
        yield chance.randint(smallest, largest)


def _heads(mix: Mix) -> Iterator[str]:
    for number in range(mix.tokens):
        token = minted(SECRET, number)
        for agent in _AGENTS[: mix.agents]:
            yield f"Authorization: Bearer {token}\tUser-Agent: {agent}\tAccept: */*"
