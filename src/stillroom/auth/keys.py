"""Keys that signatures of tokens are checked with: shared secrets, or public keys.

Which algorithm they are for is configured, and never read from a token: a token that
may choose could have a public key, which everybody has, taken for a shared secret.
"""

import base64
import binascii
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NoReturn, Protocol, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from stillroom.errors import ConfigurationError

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
"""Names of RFC 7518, 3.1 and RFC 8037, 3.1."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MIN_SECRET_BYTES: Final = 32
"""An HS256 key shorter than its hash can be guessed: https://www.rfc-editor.org/rfc/rfc7518#section-3.2"""

MIN_RSA_BITS: Final = 2048
"""https://www.rfc-editor.org/rfc/rfc7518#section-3.3"""

MAX_RSA_BITS: Final = 8192
"""A check takes some 30 µs with 2,048 bits and 400 with 8,192; larger keys are not in use."""

_MAX_PEM_BYTES: Final = 64 * 1024
_TYPES: Final[dict[Algorithm, type]] = {
    "RS256": RSAPublicKey,
    "ES256": EllipticCurvePublicKey,
    "EdDSA": Ed25519PublicKey,
}
_NEEDS: Final[dict[Algorithm, str]] = {
    "RS256": f"an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits",
    "ES256": "an elliptic curve key on P-256",
    "EdDSA": "an Ed25519 key",
}


class KeySource(Protocol):
    """Where the keys come from.

    Attributes:
        description: One line for the log: which algorithm, and whose keys.
        algorithm: What all of them are for.
        unscoped_may_all: Whether a token without a scope claim may do everything (who has
            the secret has all rights anyway), or nothing (another issuer's tokens are made
            for many services).
    """

    description: str
    algorithm: Algorithm
    unscoped_may_all: bool

    def at_hand(self, kid: str | None) -> Sequence[str | PublicKey]:
        """As `candidates`, without waiting; none: ask `candidates`."""
        ...

    async def candidates(self, kid: str | None) -> Sequence[str | PublicKey]:
        """The keys that a token naming `kid` (or no key) may be signed with; none if unknown."""
        ...

    def kept_fresh(self) -> contextlib.AbstractAsyncContextManager[None]:
        """While this is open, keys that change elsewhere are followed."""
        ...


class SharedSecrets:
    """Secrets that sign and check, the current one first; a `kid` says nothing about them."""

    description = "HS256 with a shared secret"
    algorithm: Algorithm = "HS256"
    unscoped_may_all = True

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take them.

        Raises:
            ConfigurationError: one is too short, or is no secret.
        """
        check_secrets(secrets)
        self._secrets = tuple(secrets)

    def at_hand(self, kid: str | None) -> Sequence[str]:
        """All of them."""
        del kid
        return self._secrets

    async def candidates(self, kid: str | None) -> Sequence[str]:
        """All of them."""
        return self.at_hand(kid)

    def kept_fresh(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Nothing changes here."""
        return contextlib.nullcontext()


class PublicKeyFile:
    """The one key of a PEM file, read at the start; a `kid` says nothing about it."""

    unscoped_may_all = False

    def __init__(self, file: Path, algorithm: Algorithm) -> None:
        """Read it.

        Raises:
            ConfigurationError: it cannot be read, or does not suit the algorithm.
        """
        self.description = f"{algorithm} with the public key in {file}"
        self.algorithm = algorithm
        self._key = _read_pem(file, algorithm)

    def at_hand(self, kid: str | None) -> Sequence[PublicKey]:
        """The key."""
        del kid
        return (self._key,)

    async def candidates(self, kid: str | None) -> Sequence[PublicKey]:
        """The key."""
        return self.at_hand(kid)

    def kept_fresh(self) -> contextlib.AbstractAsyncContextManager[None]:
        """A new key takes a restart."""
        return contextlib.nullcontext()


def check_secrets(secrets: Sequence[str]) -> None:
    """Raise unless every secret can be one.

    Raises:
        ConfigurationError: one is too short to sign with, or is a key of another kind.
    """
    for secret in secrets:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise ConfigurationError(
                f"a JWT secret is shorter than {MIN_SECRET_BYTES} bytes: unset "
                "STILLROOM_JWT_SECRET to have one made, or make one with `openssl rand -base64 32`"
            )
        if "-----BEGIN" in secret:
            raise ConfigurationError(
                "STILLROOM_JWT_SECRET holds a PEM key, and everybody may know a public one: set "
                "STILLROOM_JWT_PUBLIC_KEY_FILE to its file and STILLROOM_JWT_ALGORITHM instead"
            )


def suits(key: object, algorithm: Algorithm) -> bool:
    """Whether a key is of the kind and size that an algorithm needs."""
    if not isinstance(key, _TYPES[algorithm]):
        return False
    if isinstance(key, RSAPublicKey):
        return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
    return not isinstance(key, EllipticCurvePublicKey) or isinstance(key.curve, SECP256R1)


def decode_base64url(text: str) -> bytes:
    """Decode base64url as RFC 7515 has it: no padding, and one spelling for each value.

    Raises:
        ValueError: another alphabet, padding, or stray bits at the end.
    """
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != text:
        raise ValueError("not canonical base64url")
    return decoded


def parse_object(data: bytes) -> dict[str, object]:
    """Read a JSON object in which no name is given twice.

    Raises:
        ValueError: it is none.
    """
    found = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  (the data's fault, not a caller's)
    return found


def _read_pem(file: Path, algorithm: Algorithm) -> PublicKey:
    variable = f"STILLROOM_JWT_PUBLIC_KEY_FILE ({str(file)!r})"
    try:
        with file.open("rb") as opened:
            pem = opened.read(_MAX_PEM_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"{variable} cannot be read ({error.strerror}): name a PEM file that this user may read"
        ) from error
    if b"PRIVATE KEY-----" in pem:
        raise ConfigurationError(
            f"{variable} holds a private key, which must stay with the issuer: "
            "take its public half, made with `openssl pkey -pubout`"
        )
    try:
        key = _the_one_key_in(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{variable} does not hold exactly one public key in PEM (BEGIN PUBLIC KEY): "
            "make it from a private key with `openssl pkey -pubout`, "
            "from a certificate with `openssl x509 -pubkey -noout`"
        ) from error
    if not suits(key, algorithm):
        raise ConfigurationError(
            f"{variable} does not suit STILLROOM_JWT_ALGORITHM={algorithm}, which needs "
            f"{_NEEDS[algorithm]}: name another file, or set the algorithm to the key's"
        )
    return cast("PublicKey", key)


def _the_one_key_in(pem: bytes) -> object:
    if pem.count(b"-----BEGIN") != 1:  # the library would take the first and drop the others
        raise ValueError("not exactly one key")
    return load_pem_public_key(pem)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
