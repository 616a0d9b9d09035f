"""Configuration of token keys: shared secrets, a public key, or the URL of a key set."""

from dataclasses import dataclass, field
from pathlib import Path

from stillroom.auth.keys import Algorithm


@dataclass(frozen=True, slots=True)
class SecretConfig:
    """Shared secrets for HS256, which also sign URLs.

    Attributes:
        file: File with the generated secret, used if `current` is None.
        current: Secret for signing.
        previous: Former secrets, still accepted for verification.
    """

    file: Path
    current: str | None = field(default=None, repr=False)
    previous: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class KeyFileConfig:
    """Public key in a PEM file, which verifies tokens."""

    file: Path
    algorithm: Algorithm


@dataclass(frozen=True, slots=True)
class JwksConfig:
    """JSON Web Key Set (JWKS) that a token issuer publishes at a URL."""

    url: str
    algorithm: Algorithm


KeysConfig = SecretConfig | KeyFileConfig | JwksConfig
