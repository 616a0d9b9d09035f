"""Configuration of the keys for tokens: shared secrets, a public key file, or a key set URL."""

from dataclasses import dataclass, field
from pathlib import Path

from stillroom.store.auth.keys import Algorithm


@dataclass(frozen=True, slots=True)
class SecretConfig:
    """Shared secrets that sign and verify tokens (HS256) and URLs."""

    file: Path  # file with a generated secret, which is used if `current` is None
    current: str | None = field(default=None, repr=False)  # configured secret, which signs
    previous: tuple[str, ...] = field(default=(), repr=False)  # older secrets, which only verify


@dataclass(frozen=True, slots=True)
class PublicKeysConfig:
    """Public keys of a token issuer, in a PEM file or at a URL (JSON Web Key Set)."""

    place: Path | str  # PEM file, or URL
    algorithm: Algorithm


KeysConfig = SecretConfig | PublicKeysConfig
