"""Functions that load the configured keys for signing and verifying tokens."""

from pathlib import Path

from stillroom.errors import ConfigurationError
from stillroom.store.auth.config import KeysConfig, SecretConfig
from stillroom.store.auth.keys import Algorithm, KeySource, PublicKeyFile, SharedSecrets
from stillroom.store.auth.secret import load_or_make_secret, load_secret


def open_keys(config: KeysConfig) -> KeySource:
    """Return the configured keys for verifying tokens. May generate a secret."""
    if isinstance(config, SecretConfig):
        return SharedSecrets(signing_secrets(config)[0])
    if isinstance(config.place, Path):
        return PublicKeyFile(config.place, config.algorithm)
    from stillroom.store.auth.jwks import PublishedKeys  # the HTTP client takes long to import

    return PublishedKeys(config.place, config.algorithm)


def signing_secrets(config: SecretConfig) -> tuple[list[str], bool]:
    """Return the secrets for tokens and signed URLs, and whether this call has generated one.

    The first secret signs, and all secrets verify. Raises `ConfigurationError`.
    """
    current, is_new = config.current, False
    if current is None:
        current, is_new = load_or_make_secret(config.file)
    return [current, *config.previous], is_new


def minting_secret(config: SecretConfig, algorithm: Algorithm) -> str:
    """Return the secret for signing new tokens. Raise FileNotFoundError if there is none yet."""
    if algorithm != "HS256":
        raise ConfigurationError(
            f"cannot create a token, because with STILLROOM_JWT_ALGORITHM={algorithm} only the "
            "issuer has the private key: get a token from the issuer"
        )
    return load_secret(config.file) if config.current is None else config.current
