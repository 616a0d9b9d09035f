"""Settings of purges."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import SecretStr
from pydantic_settings import NoDecode

from stillroom.errors import ConfigurationError
from stillroom.paths import StorageKey
from stillroom.store.settings import Settings
from stillroom.store.settings.fields import SECURE_URL, SPLIT, STRIPPED, URL, VISIBLE


@dataclass(frozen=True, slots=True)
class PurgeConfig:
    """Configuration of purges. `bases` are the URLs at which the CDN serves the bucket."""

    api_url: str
    token: str = field(repr=False)
    bases: Sequence[str]
    covers_compute: bool

    def urls(self, key: StorageKey) -> Sequence[str]:
        """Return the URLs at which the CDN serves an image."""
        return [f"{base}/{quote(key.text, safe='/')}" for base in self.bases]

    def request(self, urls: Sequence[str]) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and the headers of an API request that purges URLs.

        https://developers.cloudflare.com/api/resources/cache/methods/purge/
        """
        return json.dumps({"files": urls}).encode(), {"authorization": f"Bearer {self.token}"}


class PurgeSettings(Settings):
    """Settings of purges."""

    cloudflare_zone_id: Annotated[str, STRIPPED, VISIBLE] = ""
    """Zone of the CDN at Cloudflare, whose copies of deleted images are purged:
    docs/r2.md#purging-the-cdn. Needs `CLOUDFLARE_API_TOKEN`."""

    cloudflare_api_token: Annotated[SecretStr, STRIPPED, VISIBLE] = SecretStr("")
    """API token with only the permission Cache Purge for this zone."""

    cloudflare_api_url: Annotated[str, STRIPPED, URL, SECURE_URL] = (
        "https://api.cloudflare.com/client/v4"
    )
    """Cloudflare's API. Plain http is accepted only for this machine."""

    r2_purge: Literal["media", "all"] = "media"
    """`media` purges images that the media library deletes. `all` also purges images below
    `compute/` that are changed or deleted."""

    r2_purge_hosts: Annotated[Sequence[str], NoDecode, SPLIT] = ()
    """Further hosts at which the CDN serves the bucket: `a.example.com,b.example.com`."""

    @property
    def purges(self) -> PurgeConfig | None:
        """Configuration of purges, or None if they are off or the CDN has no URL.

        Raises `ConfigurationError` if one of the two required settings is missing.
        """
        zone, token = self.cloudflare_zone_id, self.cloudflare_api_token.get_secret_value()
        if bool(zone) != bool(token):
            raise ConfigurationError(
                "only one of CLOUDFLARE_ZONE_ID and CLOUDFLARE_API_TOKEN is set: set both, or none"
            )
        public = urlsplit(self._cdn_url or "https:")
        hosts = [*filter(None, [public.netloc]), *self.r2_purge_hosts]
        if not zone or not hosts:
            return None
        return PurgeConfig(
            f"{self.cloudflare_api_url}/zones/{quote(zone, safe='')}/purge_cache",
            token,
            [public._replace(netloc=host).geturl() for host in dict.fromkeys(hosts)],
            covers_compute=self.r2_purge == "all",
        )

    @property
    def purge_warnings(self) -> list[str]:
        """Warning if purges are configured, but nothing is purged."""
        if not self.cloudflare_zone_id or (self.purges and self.sweep_interval_seconds):
            return []
        return [
            "nothing is purged: set R2_PUBLIC_URL, and STILLROOM_SWEEP_INTERVAL_SECONDS above 0"
        ]
