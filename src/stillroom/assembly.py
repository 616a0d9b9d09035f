"""Assembly of the core and the features according to the settings.

Servers, embedded routers and plain processes call `assemble`. Commands open only what they need,
with the `opened…` functions. All of them raise `ConfigurationError` if the settings are invalid or
do not work together. This module does not depend on HTTP (see `router.py`).
"""

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stillroom.errors import ConfigurationError
from stillroom.maintenance.inspection.choose import open_inspection, require_store
from stillroom.maintenance.inspection.port import Inspection
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.speed.settings import SpeedSettings
from stillroom.store import background
from stillroom.store.auth.choose import open_keys, signing_secrets
from stillroom.store.auth.grants import Authorize
from stillroom.store.auth.keys import KeySource
from stillroom.store.auth.signed_urls import UrlSigner
from stillroom.store.auth.tokens import TokenVerifier
from stillroom.store.auth.verified import VerifiedTokens
from stillroom.store.capabilities import (
    UNWATCHED,
    CallObserver,
    ChangeObserver,
    ChangeRelay,
    unobserved,
)
from stillroom.store.choose import open_storage
from stillroom.store.extras import not_installed
from stillroom.store.feature import Feature, Store
from stillroom.store.port import ImageStorage
from stillroom.store.settings import Settings
from stillroom.store.values import SaveRules

_JOBS_STOP_WITHIN_S: Final = 5.0  # after the last response; deletions take milliseconds
_NOT_HERE: Final = "it is not part of this installation"
_NOT_CHOSEN: Final = "it is not among the chosen features"


@dataclass(frozen=True, slots=True)
class FeatureLine:
    """Declaration of one feature, which `features/<name>/feature.py` implements.

    Attributes:
        needs: Names of required features. If one of them is off, this feature is off, too.
        libraries: Packages that must be installed.
        prefixes, headers, parameters: Prefixes of routes, request headers of saves, and query
            parameters of reads. They are all refused with 501 if the feature is off.
        file: Configuration file in the data directory. The server does not start if this file
            exists and the chosen feature is off because a package or another feature is missing.
        file_setting: Name of the setting that replaces this file.
    """

    name: str
    needs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    file: str = ""
    file_setting: str = ""


# In the order of opening. The search index, opened after the library, contains captions and tags.
FEATURES: Final = (
    FeatureLine(
        "pictures", libraries=("PIL",), parameters=("width", "height", "fit", "format", "quality")
    ),
    FeatureLine("database", libraries=("sqlalchemy", "alembic", "aiosqlite")),
    FeatureLine("metadata", prefixes=("/storage/metadata",)),
    FeatureLine(
        "library",
        needs=("database", "metadata", "search"),
        prefixes=("/media-resources", "/media-dead-letters"),
    ),
    FeatureLine("search", needs=("database", "metadata"), prefixes=("/storage/search",)),
    FeatureLine("lineage", needs=("database", "metadata", "search")),
    FeatureLine("runs", needs=("library",), prefixes=("/storage/runs",)),
    FeatureLine("retention", needs=("library", "runs"), headers=("Expires-In",)),
    FeatureLine(
        "events",
        needs=("database", "metadata", "library", "search"),
        prefixes=("/storage/events",),
        file="webhooks.toml",
        file_setting="webhooks_file",
    ),
    FeatureLine("purge", needs=("library",)),
    FeatureLine("trash", needs=("library", "runs"), prefixes=("/storage/trash",)),
    FeatureLine("grants", prefixes=("/storage/upload-grants",)),
    FeatureLine("archive", prefixes=("/storage/archive",)),
    FeatureLine("gallery"),
)


def features_off(chosen: Collection[str] | None = None) -> Mapping[str, str]:
    """Return the features that are off, with the reason.

    `chosen` names the features to use; their required features are added. None means all features.
    Raises `ConfigurationError` if a chosen feature does not exist or cannot be used.
    """
    names = {line.name for line in FEATURES}
    if unknown := sorted(set(chosen or ()) - names):
        raise ConfigurationError(
            f"there is no such feature: {', '.join(unknown)} (existing: {', '.join(sorted(names))})"
        )
    needs = {line.name: line.needs for line in FEATURES}
    needed = set(names if chosen is None else chosen)
    while more_needed := {need for name in needed for need in needs.get(name, ())} - needed:
        needed |= more_needed
    off: dict[str, str] = {}
    for line in FEATURES:
        missing = [name for name in line.libraries if importlib.util.find_spec(name) is None]
        if line.name not in needed:
            off[line.name] = _NOT_CHOSEN
        elif missing:
            off[line.name] = not_installed(*missing)
    while more := {
        line.name: _lacking(need, off)
        for line in FEATURES
        for need in line.needs
        if line.name not in off and (need in off or need not in names)
    }:
        off |= more
    if chosen is not None and (lacking := needed & off.keys()):
        raise ConfigurationError(described({name: off[name] for name in sorted(lacking)}))
    return off


def reason_off(name: str, chosen: Collection[str] | None = None) -> str | None:
    """Return why a feature is off, or None if it is on. See `features_off` for `chosen`."""
    if name not in {line.name for line in FEATURES}:
        return _NOT_HERE
    return features_off(chosen).get(name)


def _lacking(need: str, off: Mapping[str, str]) -> str:
    """Return the reason and the remedy for a feature that is off because `need` is off."""
    reason = off.get(need, _NOT_HERE)
    return f"it needs {need!r}, which is off: {reason.rpartition('which is off: ')[2]}"


def described(off: Mapping[str, str]) -> str:
    """Return one line about features that are off, with the reason and the remedy."""
    return "; ".join(f"the feature {name!r} is off: {reason}" for name, reason in off.items())


@dataclass(frozen=True, slots=True)
class Parts:
    """All open parts of one process.

    Attributes:
        keys: Keys that verify tokens; None if the host application provides `authorize`.
        tokens: Token verifier that caches valid tokens; None if `keys` is None.
        images_url: Beginning of the public URLs of images (at the CDN, if any).
        proxy_key: Secret that authenticates a proxy that sends images itself; None if disabled.
        made_secret: Whether the token secret has just been generated.
    """

    settings: Settings
    storage: ImageStorage
    authorize: Authorize
    keys: KeySource | None
    tokens: VerifiedTokens | None
    signer: UrlSigner
    store: Store
    images_url: str
    signed_images_url: str
    proxy_key: bytes | None
    made_secret: bool

    @property
    def features(self) -> Sequence[Feature]:
        """The open features, in the order in which they were opened."""
        return [*self.store.features.values()]

    @contextlib.asynccontextmanager
    async def running(self, *, again: bool = False) -> AsyncIterator[None]:
        """Context manager: fetch keys, run the features and their background jobs.

        With `again`, the parts can be used again later, also in another event loop: connections
        are closed, but a data directory remains open until the process ends.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self.keys is not None:
                await stack.enter_async_context(self.keys.keep_fresh())
            for feature in self.features:
                await stack.enter_async_context(feature.running())
            jobs = [job for feature in self.features for job in feature.jobs()]
            await stack.enter_async_context(
                background.running(
                    jobs,
                    every_s=self.settings.sweep_interval_seconds,
                    stop_within_s=min(_JOBS_STOP_WITHIN_S, self.settings.drain_seconds),
                )
            )
            yield
        await self.close(again=again)

    async def close(self, *, again: bool = False) -> None:
        """Close the features and the storage. See `running` for `again`."""
        for feature in reversed(self.features):
            await feature.close()
        if not again or self.settings.storage.kind == "bucket":
            await self.storage.close()


def assemble(
    settings: Settings,
    *,
    authorize: Authorize | None = None,
    images_url: str | None = None,
    observer: CallObserver | None = None,
    features: Collection[str] | None = None,
) -> Parts:
    """Open all parts for serving. Decoders and the database are started later, on demand.

    Args:
        settings: Settings with the sections of all features, as `AllSettings` reads them.
        authorize: Replaces the verification of tokens, but not the signing of URLs.
        images_url: Beginning of public and signed URLs, if it is not in the settings.
        observer: Called for each fsync or bucket request, if metrics of this process are collected.
        features: Names of the features to open; None opens all that are installed.
    """
    proxy_key = settings.section(SpeedSettings).proxy_key  # invalid settings open nothing
    off = features_off(features)
    keys = tokens = None
    secrets, made_secret = signing_secrets(settings.secret)
    if authorize is None:
        keys = open_keys(settings.keys)
        tokens = VerifiedTokens(verifier_of(keys, settings))
        authorize = tokens.verify
    changes = ChangeRelay()
    storage = open_storage(
        settings.storage,
        settings.save_rules,
        observer=observer or unobserved,
        changes=changes,
        disk=_disk_of(settings),
    )
    store = Store(settings, storage, changes, images_url, is_counted=observer is not None, off=off)
    open_features(store)
    return Parts(
        settings=settings,
        storage=storage,
        authorize=authorize,
        keys=keys,
        tokens=tokens,
        signer=UrlSigner(secrets),
        store=store,
        images_url=images_url or settings.images_url,
        signed_images_url=images_url or settings.api_images_url,
        proxy_key=proxy_key,
        made_secret=made_secret,
    )


def open_features(store: Store) -> None:
    """Open the features that are not off, and add them to `store`."""
    for line in FEATURES:
        if line.name not in store.off:
            module = importlib.import_module(f"stillroom.features.{line.name}.feature")
            kind: type[Feature] = getattr(module, f"{line.name.capitalize()}Feature")
            store.features[line.name] = kind(store)
        elif line.file and (reason := store.off[line.name]) != _NOT_CHOSEN:
            named = getattr(store.settings, line.file_setting, None)
            file = named or store.settings.data_dir / line.file
            if file.exists():
                fault = described({line.name: reason})
                raise ConfigurationError(
                    f"{str(file)!r} cannot be used: {fault}; or remove the file"
                )
    for feature in store.features.values():
        feature.ready(store)


def verifier_of(keys: KeySource, settings: Settings) -> TokenVerifier:
    """Return a token verifier with these keys and the configured audience and issuer."""
    return TokenVerifier(keys, audience=settings.jwt_audience, issuer=settings.jwt_issuer)


@contextlib.asynccontextmanager
async def opened_features(settings: Settings) -> AsyncIterator[Store]:
    """Context manager: open a store for a command, and index the images that it changes."""
    require_store(settings.storage)
    changes = ChangeRelay()
    async with opened_storage(settings, changes=changes) as storage:
        store = Store(settings, storage, changes, off=features_off())
        open_features(store)
        try:
            async with store.indexing():
                yield store
        finally:
            for feature in reversed(store.features.values()):
                await feature.close()


@contextlib.asynccontextmanager
async def opened_storage(
    settings: Settings, rules: SaveRules | None = None, *, changes: ChangeObserver = UNWATCHED
) -> AsyncIterator[ImageStorage]:
    """Context manager: open only the storage. `rules` replace the configured rules for saves."""
    rules = rules or settings.save_rules
    storage = open_storage(settings.storage, rules, changes=changes, disk=_disk_of(settings))
    try:
        yield storage
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def opened_inspection(settings: Settings) -> AsyncIterator[Inspection]:
    """Context manager: open an existing store for a maintenance command that inspects it."""
    top = settings.data_dir.absolute()
    inside = (file.absolute() for file in settings.files)  # those that belong to the configuration
    known = [file.relative_to(top).parts[0] for file in inside if top in file.parents]
    inspection = open_inspection(settings.storage, known)
    try:
        yield inspection
    finally:
        await inspection.close()


def _disk_of(settings: Settings) -> Callable[..., ImageStorage]:
    cache_bytes = settings.section(SpeedSettings).list_cache_bytes
    return functools.partial(FastDiskStorage, list_cache_bytes=cache_bytes)
