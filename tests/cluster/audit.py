"""What is there in the end, against what was acknowledged: images, rows, and deletions."""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import LiteralString

import httpx
import psycopg

from acceptance.library import LIBRARY
from cluster.deployment import Deployment
from cluster.load import Image, Load
from running import IMAGES

_ALIVE_FOR_S = 15.0
"""An older claim is that of a process which was killed: a batch takes less when all is well."""

_DRAINED_WITHIN_S = 60
_READERS = 4


@dataclass
class Audit:
    counts: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


def audit(deployment: Deployment, load: Load) -> Audit:
    found = Audit(violations=list(load.violations))
    drain(deployment)
    kept = [image for image in load.images if image.fate in ("saved", "recorded")]
    relocated = [image for image in load.images if image.fate == "relocated"]
    withdrawn = [image for image in relocated if image.withdrawn]
    in_library = [image for image in relocated if not image.withdrawn]
    recorded = [image for image in kept if image.fate == "recorded"]

    found.violations += _differences(
        "image", deployment.operator.keys("compute/"), (f"compute/{each.path}" for each in kept)
    )
    found.violations += _differences(
        "copy", deployment.operator.keys("media/"), (each.resource[1] for each in in_library)
    )
    found.violations += _differences(
        "resource",
        _selected(deployment, "id FROM media_resources"),
        (each.resource[0] for each in in_library + recorded),
    )
    found.violations += [f"an upload is left: {key}" for key in deployment.operator.uploads()]
    urls = {f"{IMAGES}/{each.path}": each for each in kept}
    urls |= {f"{LIBRARY}/{each.resource[0]}/file": each for each in in_library}
    found.violations += _unlike(deployment, load.token, urls)
    deleted = _swept(deployment, relocated, withdrawn, found)
    given_up = _selected(deployment, "payload ->> 'storage_key', last_error FROM media_failures")
    found.violations += [f"given up: {letter}" for letter in given_up]
    found.counts = {
        "images saved": len(load.images),
        "of them deleted by their owner": sum(each.fate == "deleted" for each in load.images),
        "ingested with their source marked": len(relocated),
        "recorded in place": len(recorded),
        "taken out of the library again": len(withdrawn),
        "deletions by the sweepers": deleted,
        "images and copies read back whole": len(urls),
        "lost, wrong, or left behind": len(found.violations),
    }
    return found


def drain(deployment: Deployment) -> None:
    """Let the time pass that marks, claims of the dead and intents are waited for.

    The clock is moved in the rows, as no test can wait for minutes; the sweepers do all the rest.
    """
    first_seen: dict[tuple[object, ...], float] = {}
    give_up = time.monotonic() + _DRAINED_WITHIN_S
    with psycopg.connect(deployment.database_url, autocommit=True) as rows:
        while True:
            rows.execute(
                "UPDATE media_deletions SET due_at = now() "
                "WHERE lease_until IS NULL AND due_at > now()"
            )
            rows.execute(
                "UPDATE media_intents SET lease_until = now() "
                "WHERE lease_until > now() AND NOT sweeping"
            )
            claims = rows.execute(
                "SELECT 'media_deletions', id::text, lease_until FROM media_deletions "
                "UNION ALL "
                "SELECT 'media_intents', media_key, lease_until FROM media_intents"
            ).fetchall()
            if not claims:
                return
            assert time.monotonic() < give_up, f"{len(claims)} are not swept: {claims[:5]}"
            for table, name, lease in claims:
                since = first_seen.setdefault((table, name, lease), time.monotonic())
                if lease is not None and time.monotonic() - since > _ALIVE_FOR_S:
                    key = "id::text" if table == "media_deletions" else "media_key"
                    rows.execute(
                        f"UPDATE {table} SET lease_until = now() "
                        f"WHERE {key} = %s AND lease_until = %s",
                        (name, lease),
                    )
            time.sleep(0.2)  # the sweepers tell nobody


def _differences(what: str, found: Iterable[str], promised: Iterable[str]) -> Iterator[str]:
    there, wanted = set(found), set(promised)
    yield from (f"{what} lost: {name}" for name in sorted(wanted - there))
    yield from (f"{what} that nobody has any more: {name}" for name in sorted(there - wanted))


def _selected(deployment: Deployment, columns: LiteralString) -> list[str]:
    with psycopg.connect(deployment.database_url) as rows:
        return [": ".join(map(str, row)) for row in rows.execute(f"SELECT {columns}")]


def _unlike(deployment: Deployment, token: str, urls: dict[str, Image]) -> list[str]:
    headers = {"Authorization": f"Bearer {token}"}
    with (
        httpx.Client(base_url=deployment.url, headers=headers, timeout=70) as proxy,
        httpx.Client(timeout=70) as bucket,
    ):

        def read(url: str) -> str:
            answer = proxy.get(url)
            if answer.status_code != 302:
                return f"{url}: {answer.status_code}"
            found = bucket.get(answer.headers["location"])
            sha256 = hashlib.sha256(found.content).hexdigest()
            return "" if sha256 == urls[url].sha256 else f"{url}: {found.status_code}, other bytes"

        with ThreadPoolExecutor(_READERS) as readers:
            return [trouble for trouble in readers.map(read, urls) if trouble]


def _swept(
    deployment: Deployment, relocated: list[Image], withdrawn: list[Image], found: Audit
) -> int:
    """What the sweepers say they have deleted must be what was marked, each of it once."""
    log = deployment.logged()
    deleted = Counter(re.findall(r"deleted '([^']+)' \((?:relocated|deleted),", log))
    # A sweeper that was killed, or got no answer, after the deletion: the next one found nothing.
    gone = set(re.findall(r"nothing to delete at '([^']+)' \((?:relocated|deleted)\)", log))
    marked = {f"compute/{each.path}" for each in relocated}
    marked |= {each.resource[1] for each in withdrawn}
    found.violations += [f"swept twice: {key}" for key, times in deleted.items() if times > 1]
    found.violations += [f"swept, not marked: {key}" for key in sorted(deleted.keys() - marked)]
    missed = marked - deleted.keys() - gone
    found.violations += [f"marked, never swept: {key}" for key in sorted(missed)]
    found.violations += re.findall(r".*(?:Traceback|CRITICAL).*", log)
    return deleted.total()
