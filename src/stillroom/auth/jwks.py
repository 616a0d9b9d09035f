"""The public keys that an identity provider publishes: a JSON Web Key Set (RFC 7517).

Checking a token never waits for the provider as long as its key is known. Keys are
fetched again in the background, and at once (but rarely) for a key that is not known;
whatever the provider answers in between, or fails to, leaves the last good set in use.
"""

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

from stillroom.auth.keys import Algorithm, PublicKey, parse_object, suits

FETCH_TIMEOUT_S: Final = 5.0
"""For a whole fetch, from looking up the host to the last byte."""

MAX_SET_BYTES: Final = 256 * 1024

REFRESH_S: Final = 300.0
"""Between fetches in the background: how long a withdrawn key is still accepted."""

UNKNOWN_KEY_S: Final = 30.0
"""Between fetches that tokens with unknown keys cause, since any client can send those."""

MAX_AGE_S: Final = 24 * 3600.0
"""How long keys are used that could not be fetched again."""

_FIRST_RETRY_S: Final = 1.0
_SLOWEST_RETRY_S: Final = 30.0
_HTTP_OK: Final = 200

Fetch = Callable[[str], Awaitable[bytes]]

log = logging.getLogger("stillroom.auth")


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a set.

    Attributes:
        count: How many there are.
        by_kid: Those with a name.
        only: The one usable key, if it is the only one; a token may then name none.
    """

    count: int
    by_kid: Mapping[str, PublicKey]
    only: PublicKey | None

    @classmethod
    def parse(cls, data: bytes, algorithm: Algorithm) -> "KeySet":
        """Read a set. Keys for something else, and keys that cannot be used, are passed over.

        Raises:
            ValueError: it is no key set, or gives two usable keys one name.
        """
        entries = parse_object(data).get("keys")
        if not isinstance(entries, list):
            raise ValueError("no list of `keys`")  # noqa: TRY004  (the data's fault)
        by_kid: dict[str, PublicKey] = {}
        usable: list[PublicKey] = []
        for entry in entries:
            key = _usable_key(entry, algorithm)
            if key is None:
                continue
            usable.append(key)
            kid = entry.get("kid")
            if kid in by_kid:
                raise ValueError(f"two keys named {kid!r}")
            if kid is not None:
                by_kid[kid] = key
        return cls(len(usable), by_kid, usable[0] if len(usable) == 1 else None)

    def find(self, kid: str | None) -> Sequence[PublicKey]:
        """The key that a token naming `kid` (or none) must be signed with, if there is one."""
        found = self.only if kid is None else self.by_kid.get(kid)
        return () if found is None else (found,)


class PublishedKeys:
    """The key set behind a URL, kept fresh; one for each process. A `KeySource`."""

    unscoped_may_all = False

    def __init__(
        self,
        url: str,
        algorithm: Algorithm,
        *,
        fetch: Fetch | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know where the set is; nothing is fetched before `kept_fresh` or the first token."""
        self._where = url.partition("?")[0]  # for the log: a query may hold a key of theirs
        self.description = f"{algorithm} with the public keys at {self._where}"
        self.algorithm = algorithm
        self._url = url
        self._fetch = fetch or fetch_key_set
        self._now = now
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._failures = 0
        self._asked_for_unknown_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def candidates(self, kid: str | None) -> Sequence[PublicKey]:
        """The key for `kid`; waits for a fetch only if it is not known.

        However many wait, there is one fetch, and it goes on if they give up.
        """
        found = self.at_hand(kid)
        if not found and self._may_ask_for(kid):
            await asyncio.shield(self._fetch_once())
            found = self.at_hand(kid)
        return found

    @contextlib.asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Fetch the set now and then; a provider that is down at the start is tried again."""
        self._fetch_once()
        refreshing = asyncio.create_task(self._refresh_for_ever())
        try:
            yield
        finally:
            for task in (refreshing, self._fetching):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    def at_hand(self, kid: str | None) -> Sequence[PublicKey]:
        """The key for `kid`, if it was fetched."""
        self._drop_old_keys()
        return () if self._keys is None else self._keys.find(kid)

    def _drop_old_keys(self) -> None:
        if self._keys is not None and self._now() - self._fetched_at > MAX_AGE_S:
            self._keys = None
            log.error(
                "the keys at %s are %d hours old: no token is accepted until they can be fetched",
                self._where,
                MAX_AGE_S // 3600,
            )

    def _may_ask_for(self, kid: str | None) -> bool:
        """Whether to fetch, or to wait for the fetch under way, on behalf of an unknown key."""
        if self._fetching is not None:
            return True
        if kid is None and self._keys is not None:
            return False  # fetching again would name no key either
        now = self._now()
        asked = self._asked_for_unknown_at
        if asked is not None and now - asked < UNKNOWN_KEY_S:
            return False
        self._asked_for_unknown_at = now
        return True

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.shield(self._fetch_once())
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        if not self._failures:
            return REFRESH_S
        return min(_FIRST_RETRY_S * float(2 ** min(self._failures - 1, 10)), _SLOWEST_RETRY_S)

    def _fetch_once(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._replace_keys())
            self._fetching.add_done_callback(self._forget_fetching)
        return self._fetching

    def _forget_fetching(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _replace_keys(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                data = await self._fetch(self._url)
                keys = await asyncio.to_thread(KeySet.parse, data, self.algorithm)
        except Exception as error:  # noqa: BLE001  (a task has no caller; whatever is answered must leave the old keys in use)
            self._failures += 1
            log.warning(
                "the keys at %s cannot be fetched (%s), %s",
                self._where,
                str(error) or type(error).__name__,
                "none is known yet" if self._keys is None else "those known stay in use",
            )
            self._drop_old_keys()
            return
        if self._keys is None or self._failures or keys.by_kid.keys() != self._keys.by_kid.keys():
            log.info("keys at %s: %d usable for %s", self._where, keys.count, self.algorithm)
        self._keys, self._fetched_at, self._failures = keys, self._now(), 0


async def fetch_key_set(url: str) -> bytes:
    """What is at `url` now: 200, without redirects, within bounds of size and time.

    Raises:
        ValueError: it answers something else, or too much.
        httpx.HTTPError, OSError, TimeoutError: it cannot be reached, or takes too long.
    """
    async with asyncio.timeout(FETCH_TIMEOUT_S):
        # Reading the system's certificates takes some 10 ms, so not on the event loop.
        trust = await asyncio.to_thread(ssl.create_default_context)
        headers = {"accept": "application/jwk-set+json, application/json"}
        headers["accept-encoding"] = "identity"  # a small answer must not unfold into a huge one
        async with (
            httpx.AsyncClient(verify=trust, timeout=FETCH_TIMEOUT_S) as client,
            client.stream("GET", url, headers=headers, follow_redirects=False) as answer,
        ):
            if answer.status_code != _HTTP_OK:
                raise ValueError(f"status {answer.status_code}")
            data = bytearray()
            async for piece in answer.aiter_raw():
                data += piece
                if len(data) > MAX_SET_BYTES:
                    raise ValueError(f"more than {MAX_SET_BYTES} bytes")
            return bytes(data)


def _usable_key(entry: object, algorithm: Algorithm) -> PublicKey | None:
    """The key of one entry (RFC 7517, 4), unless it is for something else or broken."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str | None):
        return None
    if "d" in entry or entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        return None  # `d` is the private half: every reader of the set could sign with it
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return cast("PublicKey", key) if suits(key, algorithm) else None
