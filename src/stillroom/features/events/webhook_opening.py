"""Creation of the webhooks according to the settings."""

import functools
from typing import TYPE_CHECKING

from stillroom.errors import ConfigurationError
from stillroom.features.database.database import Database
from stillroom.features.events.database import has_full_text
from stillroom.features.events.settings import EventsSettings
from stillroom.features.events.webhook_file import FILE_NAME, WatchedWebhooks
from stillroom.features.events.webhook_values import WEBHOOK
from stillroom.features.events.webhooks import Webhooks
from stillroom.paths import ImagePath
from stillroom.store.auth.choose import signing_secrets
from stillroom.store.auth.signed_urls import UrlSigner
from stillroom.store.feature import Store
from stillroom.store.settings import Settings

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine


def watched_webhooks(settings: Settings) -> WatchedWebhooks:
    """Read `webhooks.toml`, or the file that `STILLROOM_WEBHOOKS_FILE` names.

    Raises `ConfigurationError` if the file is invalid, or has endpoints although events are off.
    """
    section = settings.section(EventsSettings)
    file = section.webhooks_file or settings.data_dir / FILE_NAME
    watched = WatchedWebhooks(file, is_named=section.webhooks_file is not None)
    if watched.content.endpoints and not section.events_retention:
        raise ConfigurationError(
            f"there are webhooks in {str(file)!r}, but no events: remove the file, or "
            "STILLROOM_EVENTS_RETENTION=0"
        )
    return watched


def open_webhooks(store: Store, database: Database) -> Webhooks:
    """Return the webhooks according to the settings of the store.

    Raises the errors of `watched_webhooks`, or `ConfigurationError` if there are endpoints but the
    database lacks the full-text search that events need.
    """
    settings = store.settings
    watched = watched_webhooks(settings)
    if watched.content.endpoints and not has_full_text(database):
        raise ConfigurationError(
            "webhooks need events, which need the search index: use PostgreSQL, or an SQLite "
            "library with FTS5"
        )
    base = store.images_url or settings.api_images_url
    signer = functools.cache(lambda: UrlSigner(signing_secrets(settings.secret)[0]))

    def sign_url(path: str, valid_for_s: int) -> str:
        return f"{base}/{signer().sign(ImagePath(path), valid_for_s=valid_for_s).target}"

    database.on_connect.append(_retry_dead_letters)
    webhooks = Webhooks(watched, database, sign_url=sign_url)
    if store.is_counted:
        from stillroom.features.events.webhook_metrics import count_attempt, report_endpoints

        webhooks.count, webhooks.report = count_attempt, report_endpoints
    return webhooks


def register_endpoints(engine: "RowsEngine", *, webhooks: Webhooks) -> None:
    """Add the hook with which transactions insert rows of new endpoints before they add events."""
    from stillroom.features.events.webhook_rows import add_endpoints

    engine.hooks.written.insert(
        0, lambda connection, _changes: add_endpoints(connection, webhooks.unregistered)
    )


def _retry_dead_letters(engine: "RowsEngine") -> None:
    from stillroom.features.events.webhook_upkeep import restore_delivery

    engine.hooks.retries[WEBHOOK] = restore_delivery
