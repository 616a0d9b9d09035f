"""Public keys that an identity provider publishes as a JSON Web Key Set (RFC 7517)."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import httpx
import jwt

from stillroom.store.auth.keys import Algorithm, KeySource, PublicKey, is_suitable, parse_object

FETCH_TIMEOUT_S: Final = 5.0  # from the DNS lookup to the last byte
MAX_SET_BYTES: Final = 256 * 1024
REFRESH_S: Final = 300.0  # a withdrawn key is accepted for up to this time
UNKNOWN_KEY_S: Final = 30.0  # between fetches for unknown key ids, which any client can send
MAX_AGE_S: Final = 24 * 3600.0  # after this time without a successful fetch, keys are dropped
_FIRST_RETRY_S: Final = 1.0
_SLOWEST_RETRY_S: Final = 30.0

Fetch = Callable[[str], Awaitable[bytes]]

log = logging.getLogger("stillroom.auth")


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys that can verify tokens."""

    count: int
    by_kid: Mapping[str, PublicKey]  # keys by their id
    only: PublicKey | None  # key for tokens without a key id, if there is a single key

    @classmethod
    def parse(cls, data: bytes, algorithm: Algorithm) -> "KeySet":
        """Parse a key set, and skip the keys that cannot verify tokens. Raises ValueError."""
        entries = parse_object(data).get("keys")
        if not isinstance(entries, list):
            raise ValueError("the key set has no list `keys`")  # noqa: TRY004  (invalid data)
        by_kid: dict[str, PublicKey] = {}
        usable: list[PublicKey] = []
        for entry in entries:
            if (key := _parse_key(entry, algorithm)) is None:
                continue
            usable.append(key)
            kid = entry.get("kid")
            if kid in by_kid:
                raise ValueError(f"the key set has two keys with the id {kid!r}")
            if kid is not None:
                by_kid[kid] = key
        return cls(len(usable), by_kid, usable[0] if len(usable) == 1 else None)

    def find(self, kid: str | None) -> Sequence[PublicKey]:
        """Return a key, if any: the one with the id `kid` or, for None, the only key of the set."""
        key = self.only if kid is None else self.by_kid.get(kid)
        return () if key is None else (key,)


class PublishedKeys(KeySource):
    """Key source that fetches a key set from a URL, and refreshes it in the background.

    A token with an unknown key id causes another fetch, at most once in `UNKNOWN_KEY_S` seconds.
    If a fetch fails, the last valid key set remains in use.
    """

    def __init__(
        self,
        url: str,
        algorithm: Algorithm,
        *,
        fetch: Fetch | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log_url = url.partition("?")[0]  # the query may contain a secret
        self.description = f"{algorithm} with the public keys at {self._log_url}"
        self.algorithm = algorithm
        self._url = url
        self._fetch = fetch or fetch_key_set
        self._now = now
        self._key_set: KeySet | None = None
        self._fetched_at = 0.0
        self._failures = 0
        self._unknown_key_at = float("-inf")  # time of the last fetch for an unknown key id
        self._fetch_task: asyncio.Task[None] | None = None

    async def candidates(self, kid: str | None) -> Sequence[PublicKey]:
        """Return the key for `kid`, if any. If the id is unknown, fetch the key set first."""
        keys = self.candidates_now(kid)
        if not keys and self._may_fetch_for(kid):
            await asyncio.shield(self._fetch_once())  # other callers may wait for the same fetch
            keys = self.candidates_now(kid)
        return keys

    @contextlib.asynccontextmanager
    async def keep_fresh(self) -> AsyncIterator[None]:
        """Context manager that fetches the key set at once and then periodically."""
        self._fetch_once()
        refreshing = asyncio.create_task(self._refresh_forever())
        try:
            yield
        finally:
            for task in (refreshing, self._fetch_task):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    def candidates_now(self, kid: str | None) -> Sequence[PublicKey]:
        """Return the known key for `kid`, if there is one. See `KeySource`."""
        self._drop_old_keys()
        return () if self._key_set is None else self._key_set.find(kid)

    def _drop_old_keys(self) -> None:
        if self._key_set is not None and self._now() - self._fetched_at > MAX_AGE_S:
            self._key_set = None
            message = (
                "the token keys from %s are more than %d hours old: no token is accepted until "
                "they can be fetched again"
            )
            log.error(message, self._log_url, MAX_AGE_S // 3600)

    def _may_fetch_for(self, kid: str | None) -> bool:
        if self._fetch_task is not None and not self._fetch_task.done():
            return True
        if kid is None and self._key_set is not None:
            return False  # with several keys, a fetch would not help
        now = self._now()
        if now - self._unknown_key_at < UNKNOWN_KEY_S:
            return False
        self._unknown_key_at = now
        return True

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.shield(self._fetch_once())
            pause_s = min(_FIRST_RETRY_S * 2 ** min(self._failures - 1, 10), _SLOWEST_RETRY_S)
            await asyncio.sleep(pause_s if self._failures else REFRESH_S)

    def _fetch_once(self) -> asyncio.Task[None]:
        if self._fetch_task is None or self._fetch_task.done():
            self._fetch_task = asyncio.create_task(self._replace_keys())
        return self._fetch_task

    async def _replace_keys(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                data = await self._fetch(self._url)
                keys = await asyncio.to_thread(KeySet.parse, data, self.algorithm)
        except Exception as error:  # noqa: BLE001  (a task has no caller, and any response must leave the old keys in use)
            self._failures += 1
            state = "the earlier keys stay in use"
            if self._key_set is None:
                state = "no token is accepted until then"
            message = "cannot fetch the token keys from %s (%s), will retry: %s"
            log.warning(message, self._log_url, str(error) or type(error).__name__, state)
            self._drop_old_keys()
            return
        old = self._key_set
        if old is None or self._failures or keys.by_kid.keys() != old.by_kid.keys():
            message = "fetched token keys from %s: %d can be used for %s"
            log.info(message, self._log_url, keys.count, self.algorithm)
        self._key_set, self._fetched_at, self._failures = keys, self._now(), 0


async def fetch_key_set(url: str) -> bytes:
    """Return the bytes of a key set. Raises ValueError, `httpx.HTTPError` or OSError."""
    async with asyncio.timeout(FETCH_TIMEOUT_S):
        # In a thread, since loading the system's certificates takes about 10 ms.
        trust = await asyncio.to_thread(ssl.create_default_context)
        headers = {"accept": "application/jwk-set+json, application/json"}
        headers["accept-encoding"] = "identity"  # prevents decompression bombs
        async with (
            httpx.AsyncClient(verify=trust, timeout=FETCH_TIMEOUT_S) as client,
            client.stream("GET", url, headers=headers, follow_redirects=False) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"the response has the status {response.status_code}")
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > MAX_SET_BYTES:
                    raise ValueError(f"the response has more than {MAX_SET_BYTES} bytes")
            return bytes(data)


def _parse_key(entry: object, algorithm: Algorithm) -> PublicKey | None:
    """Parse a key (RFC 7517, section 4). Return None if it cannot verify tokens."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str | None):
        return None
    if "d" in entry or entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        return None  # an entry with `d` is a private key, which must not be published
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return cast("PublicKey", key) if is_suitable(key, algorithm) else None
