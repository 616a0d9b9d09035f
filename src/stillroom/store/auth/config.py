"""Configuration of the keys for tokens: shared secrets, a public key, or the URL of a key set."""

from dataclasses import dataclass, field
from pathlib import Path

from stillroom.store.auth.keys import Algorithm


@dataclass(frozen=True, slots=True)
class SecretConfig:
    """Shared secrets that sign and verify tokens (HS256) and URLs."""

    file: Path  # file for a generated secret, used if `current` is None
    current: str | None = field(default=None, repr=False)  # secret that signs
    previous: tuple[str, ...] = field(default=(), repr=False)  # these still verify


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
