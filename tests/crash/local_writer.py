"""A plain process that saves, deletes and ingests without a server, and says what it was promised.

    python -m crash.local_writer SEED NAME

Each act is two lines of JSON: what is attempted, and what was acknowledged.
"""

import hashlib
import json
import random
import sys

from crash.traffic import SIZES
from pictures import picture
from stillroom.local import open_store


def say(**said: object) -> None:
    print(json.dumps(said), flush=True)  # noqa: T201  (the parent reads it)


def main(seed: str, name: str) -> None:
    chance = random.Random(f"{seed}-{name}")
    held: set[str] = set()
    with open_store() as store:
        for number in range(1_000_000):
            path = f"{seed}/{name}/{chance.randrange(4)}/{chance.randrange(6)}.bin"
            deed = chance.random()
            if deed < 0.1:
                kept = f"{seed}-kept/{name}/{number}.png"
                store.save(kept, picture(size=(8, 8 + number % 64)))
                resource = store.media.ingest_from_storage_key(f"compute/{kept}", relocate=True)
                say(kept=str(resource.id), sha256=resource.content_hash.hex())
            elif path in held and deed < 0.3:
                say(path=path, sha256=None)
                store.delete(path)
                held.remove(path)
                say(path=path, sha256=None, etag="")
            else:
                data = chance.randbytes(chance.choice(SIZES))
                say(path=path, sha256=hashlib.sha256(data).hexdigest())
                saved = store.save(path, data)
                held.add(path)
                say(path=path, sha256=saved.sha256, etag=saved.etag)


if __name__ == "__main__":
    main(*sys.argv[1:])
