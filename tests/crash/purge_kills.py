"""SIGKILL while deletions are purged: no reader at the edge sees a deleted image afterwards.

The API of the CDN answers 429 or 500 to half of the requests. After most kills, the leases of the
killed processes are ended in the database, as if minutes had passed. In the end, the pauses before
the second purges are ended, too.
"""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx
import sqlalchemy as sa

from crash.rounds import Round
from pictures import picture
from purge.cloudflare import Cloudflare, Failure, cloudflare
from purge.serving import LIBRARY, Site, started
from services.nginx import nginx_cdn
from services.postgres import postgresql
from services.s3 import Operator
from services.seaweedfs import BUCKET, SeaweedFS, seaweedfs
from stillroom.features.database.clock import now
from stillroom.features.database.engine import migrating
from stillroom.features.library.rows.tables import dead_letters, deletions, intents
from stillroom.features.purge.tables import purges
from waiting import until

DATABASES: Final = ("sqlite", "postgresql")
PER_ROUND: Final = 100
_CLIENTS: Final = 4
_FAILURES: Final = (Failure(429), Failure(429, {"retry-after": "1"}), Failure(500), Failure(500))


class PurgeKills:
    """Deletions of one library, by servers that are killed."""

    def __init__(self, folder: Path, database: str, *, seed: int) -> None:
        self._folder, self._database = folder / database, database
        self._folder.mkdir(parents=True)
        self._chance = random.Random(f"{seed}-{database}")
        self._deleted: list[str] = []
        self._kills = 0
        self._early: set[str] = set()
        self._gone: set[str] = set()
        self._is_reading = threading.Event()

    def rounds(self, count: int) -> Iterator[Round]:
        """Yield a round for each `PER_ROUND` deletions. The last one checks the end."""
        with contextlib.ExitStack() as stack:
            seaweed, api = self._services(stack)
            more = {}
            if self._database == "postgresql":
                url = stack.enter_context(postgresql()).make_database()
                more["STILLROOM_DATABASE_URL"] = url
            for number in range(count):
                violations: list[str] = []
                with started(self._folder, seaweed, api, **more) as site:
                    keys = self._prepare(site, number)
                    self._delete(site, keys, kills=True)
                with started(self._folder, seaweed, api, **more) as site:
                    self._delete(site, keys, kills=False)
                    self._deleted += [key for key, _ in keys]
                    if number == count - 1:
                        violations = self._violations(site)
                yield Round(len(keys), violations)

    def _services(self, stack: contextlib.ExitStack) -> tuple[SeaweedFS, Cloudflare]:
        folders = [self._folder / name for name in ("seaweedfs", "edge")]
        for folder in folders:
            folder.mkdir()
        seaweed = stack.enter_context(seaweedfs(folders[0]))
        Operator(seaweed.endpoint_url).make_bucket()
        edge = stack.enter_context(nginx_cdn(folders[1], seaweed.endpoint_url, keeps_404=False))
        api = stack.enter_context(cloudflare(edge, folders[1] / "cache"))
        bucket = f"{seaweed.endpoint_url}/{BUCKET}"

        def note(url: str) -> None:
            """Remember whether the object was gone when its URL was purged."""
            is_gone = httpx.head(url.replace(edge, bucket), timeout=60).status_code == 404
            (self._gone if is_gone else self._early).add(url)

        def fail() -> Failure | None:
            return self._chance.choice(_FAILURES) if self._chance.random() < 0.5 else None

        api.fail, api.note = fail, note
        return seaweed, api

    def _prepare(self, site: Site, number: int) -> list[tuple[str, str]]:
        """Ingest images and read each at the edge. Return their keys and ids."""

        def ingest(at: int) -> tuple[str, str]:
            image, path = picture(number * PER_ROUND + at), f"{number}/{at}.png"
            site.save(path, image)
            # On a slow disk, SQLite may be locked for so long that the response is 503.
            resource = until(lambda: site.ingest(path), despite=httpx.HTTPStatusError)
            assert site.api.read(resource["storage_key"]).content == image
            return resource["storage_key"], resource["id"]

        with ThreadPoolExecutor(_CLIENTS) as pool:
            return [*pool.map(ingest, range(PER_ROUND))]

    def _delete(self, site: Site, keys: list[tuple[str, str]], *, kills: bool) -> None:
        """Delete resources, while readers at the edge read them. Perhaps kill the server."""

        def delete(resource: str) -> None:
            with contextlib.suppress(httpx.TransportError):
                answer = site.client.delete(f"{LIBRARY}/{resource}")
                while answer.status_code == 503:  # SQLite is locked, on a slow disk
                    answer = site.client.delete(f"{LIBRARY}/{resource}")
                assert answer.status_code in (200, 404), answer.text

        def read() -> None:
            chance = random.Random(len(keys))
            while self._is_reading.is_set():
                with contextlib.suppress(httpx.TransportError):
                    site.api.read(chance.choice(keys)[0])

        self._is_reading.set()
        readers = [threading.Thread(target=read) for _ in range(2)]
        with ThreadPoolExecutor(_CLIENTS) as pool:
            for reader in readers:
                reader.start()
            deleting = [pool.submit(delete, resource) for _, resource in keys]
            if kills:
                time.sleep(self._chance.uniform(0, 1.5))  # the moment is the experiment
                site.server.kill()
                self._kills += 1
            for deleted in deleting:
                deleted.result()
            self._is_reading.clear()
        for reader in readers:
            reader.join()
        if kills and self._chance.random() < 0.9:
            end_leases(site)

    def _violations(self, site: Site) -> list[str]:
        urls = {f"{site.api.edge}/{key}" for key in self._deleted}

        def is_settled() -> bool:
            site.hurry()
            with migrating(site.rows) as connection:
                return not any(
                    connection.execute(sa.select(table.c.id)).first()
                    for table in (deletions, purges)
                )

        until(is_settled, by=site.server.process, said=site.server.logged, within_s=900)
        with migrating(site.rows) as connection:
            letters = connection.execute(sa.select(dead_letters)).all()
        found = [f"a dead letter: {letter.kind} {letter.payload}" for letter in letters]
        found += [f"not purged after its deletion: {url}" for url in sorted(urls - self._gone)]
        found += [f"purged before its deletion: {url}" for url in sorted(self._early)]
        twice = {url for url, times in site.api.purged.items() if len(times) > 1}
        found += [f"purged only once: {url}" for url in sorted(urls - twice)]
        for key in self._deleted:
            if (status := site.api.read(key).status_code) != 404:
                found.append(f"a reader at the edge gets {status}: {key}")
        if site.api.largest > 100:
            found.append(f"a request with {site.api.largest} URLs")
        self.statuses = dict(site.api.statuses)
        return found

    def figures(self) -> str:
        """Return a line for people, after the last round."""
        return (
            f"{len(self._deleted):,} deletions, {self._kills} SIGKILLs, responses of the API: "
            f"{getattr(self, 'statuses', {})}"
        )


def end_leases(site: Site) -> None:
    """Let the leases of a killed server expire, as if their time had passed."""
    with migrating(site.rows) as connection:
        for table in (deletions, intents, purges):
            held = sa.update(table).where(table.c.lease_until.is_not(None))
            connection.execute(held.values(lease_until=now()))
