"""What tokens are checked with, as it is configured: secrets, a public key, or a key set's URL."""

from dataclasses import dataclass, field
from pathlib import Path

from stillroom.auth.keys import Algorithm


@dataclass(frozen=True, slots=True)
class SecretConfig:
    """HS256 secrets, which sign URLs as well.

    Attributes:
        file: Where the secret is kept if none is configured.
        current: What is signed with; None: the secret in `file`.
        previous: What was signed with before, and is still accepted.
    """

    file: Path
    current: str | None = field(default=None, repr=False)
    previous: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class KeyFileConfig:
    """A public key in a PEM file."""

    file: Path
    algorithm: Algorithm


@dataclass(frozen=True, slots=True)
class JwksConfig:
    """The key set that an issuer publishes at a URL."""

    url: str
    algorithm: Algorithm


KeysConfig = SecretConfig | KeyFileConfig | JwksConfig
