"""Keys that verify the signatures of tokens: shared secrets or public keys.

The algorithm is configured, and never taken from a token. Otherwise, an attacker could create a
token with the algorithm HS256, and sign it with the public key as the shared secret.
"""

import base64
import binascii
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from stillroom.errors import ConfigurationError
from stillroom.store.http.json_objects import refuse_constant

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]  # RFC 7518, 3.1 and RFC 8037, 3.1

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MIN_SECRET_BYTES: Final = 32  # shorter HS256 keys can be guessed (RFC 7518, 3.2)
MIN_RSA_BITS: Final = 2048  # RFC 7518, 3.3
MAX_RSA_BITS: Final = 8192  # verification takes 30 µs with 2,048 bits, 400 µs with 8,192 bits
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


class KeySource:
    """Source of the keys for verifying tokens with one algorithm."""

    description: str  # algorithm and origin of the keys, for the log
    algorithm: Algorithm
    # True if a token without a scope claim has all permissions. Only for shared secrets, since
    # other issuers create tokens for many services.
    unscoped_may_all = False
    _keys: Sequence[str | PublicKey] = ()

    def candidates_now(self, kid: str | None) -> Sequence[str | PublicKey]:
        """Return the known keys for a token with the key id `kid` (None: no id)."""
        del kid
        return self._keys

    async def candidates(self, kid: str | None) -> Sequence[str | PublicKey]:
        """Return the keys like `candidates_now`, but fetch them first if `kid` is unknown."""
        return self.candidates_now(kid)

    def keep_fresh(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Return a context manager in which the keys are refreshed in the background."""
        return contextlib.nullcontext()


class SharedSecrets(KeySource):
    """Key source with shared secrets. Any of them can verify a token, and key ids are ignored."""

    description = "HS256 with a shared secret"
    algorithm = "HS256"
    unscoped_may_all = True

    def __init__(self, secrets: Sequence[str]) -> None:
        check_secrets(secrets)
        self._keys = tuple(secrets)


class PublicKeyFile(KeySource):
    """Key source with the public key in a PEM file. May raise `ConfigurationError`."""

    def __init__(self, file: Path, algorithm: Algorithm) -> None:
        self.description = f"{algorithm} with the public key in {file}"
        self.algorithm = algorithm
        self._keys = (_read_pem(file, algorithm),)


def check_secrets(secrets: Sequence[str]) -> None:
    """Raise `ConfigurationError` if a shared secret is too short or is a PEM key."""
    for secret in secrets:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise ConfigurationError(
                f"a JWT secret is shorter than {MIN_SECRET_BYTES} bytes: unset "
                "STILLROOM_JWT_SECRET to generate one, or use `openssl rand -base64 32`"
            )
        if "-----BEGIN" in secret:
            raise ConfigurationError(
                "STILLROOM_JWT_SECRET contains a PEM key: set STILLROOM_JWT_ALGORITHM, and set "
                "STILLROOM_JWT_PUBLIC_KEY_FILE to a file with the public key"
            )


def is_suitable(key: object, algorithm: Algorithm) -> bool:
    """Return whether a public key has the type and the size that the algorithm requires."""
    if not isinstance(key, _TYPES[algorithm]):
        return False
    if isinstance(key, RSAPublicKey):
        return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
    return not isinstance(key, EllipticCurvePublicKey) or isinstance(key.curve, SECP256R1)


def decode_base64url(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515). Raise ValueError if it is not canonical."""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("the text is not valid base64url") from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != text:
        raise ValueError("the text is not canonical base64url")
    return decoded


def parse_object(data: bytes) -> dict[str, object]:
    """Parse a JSON object. Raise ValueError for other data, and for duplicate names."""
    document = json.loads(data, object_pairs_hook=_make_object, parse_constant=refuse_constant)
    if not isinstance(document, dict):
        raise ValueError("the JSON document is not an object")  # noqa: TRY004  (invalid data, not a wrong argument type)
    return document


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
            f"{variable} contains a private key, which must stay with the issuer: use its "
            "public key, made with `openssl pkey -pubout`"
        )
    try:
        if pem.count(b"-----BEGIN") != 1:  # the library would ignore all keys except the first
            raise ValueError("the file does not contain exactly one key")  # noqa: TRY301  (handled like a malformed key)
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{variable} must contain exactly one public key in PEM (BEGIN PUBLIC KEY): make "
            "it from a private key with `openssl pkey -pubout`, from a certificate with "
            "`openssl x509 -pubkey -noout`"
        ) from error
    if not is_suitable(key, algorithm):
        raise ConfigurationError(
            f"{variable} does not match STILLROOM_JWT_ALGORITHM={algorithm}, which needs "
            f"{_NEEDS[algorithm]}: use another file, or set the algorithm that fits the key"
        )
    return cast("PublicKey", key)


def _make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in a JSON object")
    return members
