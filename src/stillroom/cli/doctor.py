"""Command `stillroom doctor`, which checks the configuration and services, and prints remedies."""

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click
import httpx

from stillroom.cli.exits import FAILED
from stillroom.cli.options import DATA_DIR, json_option, read_settings, rows_config
from stillroom.cli.output import echo_record
from stillroom.cli.server_options import minted_token
from stillroom.errors import ImageNotFound, StillroomError
from stillroom.paths import COMPUTE_PREFIX, ImagePath, ImagePrefix, KeyPrefix, StorageKey

if TYPE_CHECKING:
    from stillroom.settings import AllSettings
    from stillroom.store.port import ImageStorage

_PROBE_FOLDER: Final = "stillroom-doctor"
_PROBE: Final = b"\x89PNG\r\n\x1a\n" + b"written by stillroom doctor; may be deleted"
_SKEW_S: Final = 60
"""Maximum clock error in seconds. Token expirations have no tolerance, and S3 tolerates 15 minutes:
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (RequestTimeTooSkewed)."""

_TIMEOUT_S: Final = 15


@dataclass(frozen=True, slots=True)
class _CheckResult:
    """Result of one check, with a remedy if the check found a problem.

    If `is_warning` is True, the server works despite the problem, at least on a single machine.
    """

    subject: str
    text: str
    remedy: str = ""
    is_warning: bool = False


@click.command()
@DATA_DIR
@json_option("Print one JSON object per check.")
def doctor(*, data_dir: str | None, as_json: bool) -> None:
    """Check the settings, storage, CDN, database and clock of the server on this machine."""
    try:
        settings = read_settings(data_dir)
        settings.storage  # noqa: B018  (a bucket that is configured by halves raises here)
        features = _features(settings)
    except StillroomError as error:
        remedy = "set them so that `stillroom serve` starts"
        _show(_CheckResult("settings", str(error), remedy), as_json=as_json)
        sys.exit(FAILED)
    if wrong := sum(_show(result, as_json=as_json) for result in _results(settings, *features)):
        click.echo(f"{wrong} to fix", err=True)
        sys.exit(FAILED)


def _show(result: _CheckResult, *, as_json: bool) -> bool:
    is_wrong = bool(result.remedy) and not result.is_warning
    verdict = "WRONG" if is_wrong else "note" if result.is_warning else "ok"
    known = {"subject": result.subject, "said": result.text, "remedy": result.remedy or None}
    remedy = f"\n{'':18}-> {result.remedy}" if result.remedy else ""
    line = f"{verdict:6}{result.subject:12}{result.text}{remedy}"
    echo_record({"verdict": verdict.lower(), **known}, line, as_json=as_json)
    return is_wrong


def _features(settings: "AllSettings") -> tuple[set[str], Mapping[str, str], list[str]]:
    """Check the settings. Return the features that are on, why others are off, and warnings."""
    from stillroom.assembly import FEATURES, features_off

    off, warnings = features_off(), settings.warnings()
    on = {line.name for line in FEATURES} - off.keys()
    if "database" in on:
        from stillroom.features.database.settings import DatabaseSettings

        section = settings.section(DatabaseSettings)
        section.rows  # noqa: B018  (raises if a driver is missing)
        warnings += section.row_warnings
    if "retention" in on:
        from stillroom.features.retention.feature import rules_of

        rules_of(settings)
    if "events" in on:
        from stillroom.features.events.webhook_opening import watched_webhooks

        warnings += watched_webhooks(settings).content.warnings
    return on, off, warnings


def _results(
    settings: "AllSettings", on: set[str], off: Mapping[str, str], warnings: Sequence[str]
) -> Iterator[_CheckResult]:
    yield _CheckResult("settings", "read")
    for warning in warnings:
        text, _, remedy = warning.partition(": ")
        yield _CheckResult("settings", text, remedy or text, is_warning=True)
    for name, reason in off.items():
        yield _CheckResult(name, f"off: {reason}", is_warning=True)
    if "pictures" in on:
        from stillroom.features.pictures import confinement

        gaps = confinement.gaps()
        for text, remedy in gaps.values():
            yield _CheckResult("decoders", text, remedy, is_warning=True)
        if not gaps:
            yield _CheckResult("decoders", "confined by Landlock and seccomp")
    yield _CheckResult("secret", *_secret(settings))
    yield _CheckResult("filesystem", *_filesystem(settings))
    yield from asyncio.run(_storage(settings))
    if "database" in on:
        yield _CheckResult("database", *asyncio.run(_database(settings)))
    if "purge" in on and (purged := asyncio.run(_purge(settings))) is not None:
        yield _CheckResult("purges", *purged)
    yield _CheckResult("clock", *_clock(settings))


def _secret(settings: "AllSettings") -> tuple[str, str]:
    from stillroom.assembly import verifier_of
    from stillroom.store.auth.choose import open_keys

    own = settings.jwt_algorithm == "HS256" and settings.jwt_secret is None
    if own and not settings.secret_file.exists():
        return f"none yet; the first start creates {settings.secret_file}", ""
    try:
        keys = open_keys(settings.keys)
        if settings.jwt_algorithm == "HS256":
            token = minted_token(settings, timedelta(minutes=1))
            asyncio.run(verifier_of(keys, settings).check(f"Bearer {token}"))
    except StillroomError as error:
        return str(error), "fix what it names; `stillroom token` must work"
    command = settings.token_command
    return f"{keys.description}{command and f'; mint one with: {command}'}", ""


def _filesystem(settings: "AllSettings") -> tuple[str, str]:
    home = settings.data_dir
    if not home.exists():
        return f"{home} does not exist yet; the first start creates it", ""
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        remedy = f"give it to this user: chown -R $(id -u) {home}"
        return f"this user cannot write to {home}", remedy
    free = shutil.disk_usage(home).free
    text = f"{home}, {free / 1e9:.1f} GB free"
    if free < settings.min_free_bytes:
        return text, "free some space, or lower STILLROOM_MIN_FREE_BYTES: saves get 507"
    if settings.durability == "none":
        remedy = "unset STILLROOM_DURABILITY, unless this is scratch data"
        return f"{text}; a power cut loses images", remedy
    return text, ""


async def _storage(settings: "AllSettings") -> list[_CheckResult]:
    from stillroom.assembly import opened_storage
    from stillroom.store.choose import DiskConfig

    if isinstance(settings.storage, DiskConfig) and not settings.data_dir.exists():
        return []
    try:
        async with opened_storage(settings) as storage:
            origins = [*settings.cors_origins, *_gallery_origin(settings)]
            results = [result async for result in _try_operations(storage, origins)]
            return [_CheckResult("storage", storage.description), *results]
    except StillroomError as error:
        return [_CheckResult("storage", str(error), "fix what it names")]


def _gallery_origin(settings: "AllSettings") -> list[str]:
    """Return the web origin of the gallery, which uploads to the bucket, or [] if it is unknown."""
    try:
        from stillroom.features.gallery.settings import GallerySettings
    except ModuleNotFoundError:  # the feature is not part of this installation
        return []
    url = urlsplit(settings.public_base_url)
    is_known = bool(url.netloc) and settings.section(GallerySettings).gallery
    return [f"{url.scheme}://{url.netloc}"] if is_known else []


async def _try_operations(
    storage: "ImageStorage", origins: Sequence[str]
) -> AsyncIterator[_CheckResult]:
    from stillroom.store.sources import BytesSource
    from stillroom.store.values import ListQuery

    name = f"{_PROBE_FOLDER}/{secrets.token_hex(8)}"
    key, copied = (
        StorageKey.of_image(ImagePath.parse(f"{name}{end}.png")) for end in ("", "-copy")
    )
    prefix = KeyPrefix.of_images(ImagePrefix.parse(f"{_PROBE_FOLDER}/"))
    steps = (
        ("saving", lambda: storage.save(key, BytesSource(_PROBE))),
        ("metadata", lambda: storage.stat(key)),
        ("listing", lambda: storage.list(ListQuery(prefix, limit=1))),
        ("order", lambda: _lacking(storage, "order")),
        ("conditions", lambda: _lacking(storage, "conditions")),
        ("copying", lambda: storage.copy(key, copied)),
        ("uploads", lambda: _uploads(storage, origins)),
        ("reading", lambda: _read(storage, key)),
        ("deleting", lambda: _delete(storage, key, copied)),
    )
    for subject, step in steps:
        began = time.perf_counter()
        try:
            results = await step()
        except StillroomError as error:
            cause = f": {error.__cause__}" if error.__cause__ else ""
            remedy = (
                "check R2_ENDPOINT_URL, and that a bucket's token has Object Read & Write "
                "(docs/r2.md); a disk must be writable and healthy"
            )
            yield _CheckResult(subject, f"{error}{cause}", remedy)
            if subject == "saving":
                return
            continue
        works = f"works, {(time.perf_counter() - began) * 1000:.0f} ms"
        found = results if isinstance(results, list) else []
        for result in found or [_CheckResult(subject, works)]:
            yield result


async def _lacking(storage: "ImageStorage", subject: str) -> list[_CheckResult]:
    from stillroom.store.capabilities import TriesFeatures

    if not isinstance(storage, TriesFeatures):
        return []
    find = storage.lacking_order if subject == "order" else storage.lacking_conditions
    remedy = "see whether a newer release does better (docs/buckets.md)"
    return [
        _CheckResult(
            subject, f"the bucket {lack.fault}", f"{lack.consequence}: {remedy}", is_warning=True
        )
        for lack in await find()
    ]


async def _uploads(storage: "ImageStorage", origins: Sequence[str]) -> list[_CheckResult]:
    from stillroom.assembly import reason_off
    from stillroom.store.uploads import SavesUploads

    if reason_off("grants") or not isinstance(storage, SavesUploads):
        return []
    from stillroom.features.grants.advice import check_uploads

    results = await check_uploads(storage.uploads, origins)
    return [_CheckResult("uploads", *result, is_warning=bool(result[1])) for result in results]


async def _read(storage: "ImageStorage", key: StorageKey) -> list[_CheckResult]:
    """Read the test image as a browser would: from the server, or from the CDN after a redirect."""
    from stillroom.store.values import RemoteImage

    location = await storage.locate(key)
    if not isinstance(location, RemoteImage):
        try:
            content = b"".join([chunk async for chunk in location.chunks(0, len(_PROBE))])
        finally:
            location.close()
        wrong = [_CheckResult("reading", "the bytes differ", "check the disk: run its SMART test")]
        return [] if content == _PROBE else wrong
    url = httpx.URL(location.url)
    host, fields = url.host, {"host": url.netloc.decode()}
    if host.endswith(".localhost"):  # this machine (RFC 6761), unknown to many resolvers
        url = url.copy_with(host="localhost")
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
            answer = await client.get(url, headers=fields, extensions={"sni_hostname": host})
    except httpx.TransportError as error:
        remedy = "connect the bucket to the domain in R2_PUBLIC_URL (docs/r2.md)"
        return [_CheckResult("CDN", f"{host} does not respond: {error}", remedy)]
    if answer.status_code != 200 or answer.content != _PROBE:  # noqa: PLR2004  (a status)
        remedy = "R2_PUBLIC_URL must serve this bucket, from its root (docs/r2.md)"
        return [_CheckResult("CDN", f"{host} returns {answer.status_code}, not the probe", remedy)]
    return list(_cdn_fields(host, answer))


def _cdn_fields(host: str, answer: httpx.Response) -> Iterator[_CheckResult]:
    yield _CheckResult("CDN", f"{host} serves what was saved")
    remedies = {
        "cache-control": "let the CDN pass it on: R2_CACHE_CONTROL is stored with each image",
        "content-type": "let the CDN pass it on: it is stored with each image",
    }
    if "X-Amz-Signature" not in answer.url.params:  # presigned URLs do not use the CDN
        remedies["x-content-type-options"] = (
            "set it to `nosniff` by a response header transform rule (docs/r2.md)"
        )
    for field, remedy in remedies.items():
        value = answer.headers.get(field, "")
        yield _CheckResult("CDN", f"{field}: {value or 'missing'}", "" if value else remedy)


async def _delete(storage: "ImageStorage", key: StorageKey, copied: StorageKey) -> None:
    with contextlib.suppress(ImageNotFound):  # the copy failed, which was reported
        await storage.delete(copied)
    await storage.delete(key)


async def _database(settings: "AllSettings") -> tuple[str, str]:
    from stillroom.features.database.config import SqliteConfig
    from stillroom.features.database.database import Database

    rows = rows_config(settings)
    if isinstance(rows, SqliteConfig) and not rows.file.exists():
        return "none yet; the first start creates it", ""
    database = Database(rows)
    try:
        await database.engine()
    except StillroomError as error:
        remedy = "check that PostgreSQL runs, and user, host and name in STILLROOM_DATABASE_URL"
        if isinstance(rows, SqliteConfig):
            remedy = f"restore {rows.file} from a backup"
        return str(error), remedy
    finally:
        await database.close()
    return database.description, ""


async def _purge(settings: "AllSettings") -> tuple[str, str] | None:
    from stillroom.features.purge.settings import PurgeSettings
    from stillroom.store.json_posts import JsonPosts

    try:
        config = settings.section(PurgeSettings).purges
    except StillroomError as error:
        return str(error), "set them so that `stillroom serve` starts"
    if config is None:
        return None
    posts, key = JsonPosts(config.api_url), StorageKey(f"{COMPUTE_PREFIX}{_PROBE_FOLDER}/none.png")
    attempt = await posts.send(*config.request(config.urls(key)))
    await posts.close()
    if attempt.is_delivered:
        return f"{', '.join(config.bases)}: a test URL was purged", ""
    remedy = (
        "check CLOUDFLARE_ZONE_ID, that the token has the permission Cache Purge, and that the "
        "hosts in R2_PUBLIC_URL and R2_PURGE_HOSTS are in this zone"
    )
    return attempt.detail, remedy


def _clock(settings: "AllSettings") -> tuple[str, str]:
    """Compare this machine's clock with the bucket's clock or, without a bucket, the server's."""
    url = settings.r2_endpoint_url or os.environ.get("STILLROOM_URL", "")
    if not url:
        return "no bucket and no STILLROOM_URL to compare it with", ""
    try:
        answer = httpx.get(f"{url.rstrip('/')}/healthz", timeout=_TIMEOUT_S)
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError) as error:
        return f"{url} does not send the time ({type(error).__name__})", ""
    ahead = time.time() - theirs
    text = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {httpx.URL(url).host}"
    remedy = "switch time synchronisation on: timedatectl set-ntp true"
    return text, remedy if abs(ahead) > _SKEW_S else ""
