"""Opens what tokens are checked and signed with, as it is configured."""

from stillroom.auth.config import KeyFileConfig, KeysConfig, SecretConfig
from stillroom.auth.keys import Algorithm, KeySource, PublicKeyFile, SharedSecrets
from stillroom.auth.secret import load_or_make_secret, load_secret
from stillroom.errors import ConfigurationError


def open_keys(config: KeysConfig) -> KeySource:
    """The keys that tokens are checked with; a secret is made where there is none.

    Raises:
        ConfigurationError: a key cannot be used.
    """
    if isinstance(config, SecretConfig):
        return SharedSecrets(signing_secrets(config)[0])
    if isinstance(config, KeyFileConfig):
        return PublicKeyFile(config.file, config.algorithm)
    from stillroom.auth.jwks import PublishedKeys  # its client takes long to import

    return PublishedKeys(config.url, config.algorithm)


def signing_secrets(config: SecretConfig) -> tuple[list[str], bool]:
    """The secrets that tokens and URLs are signed with, and whether one was made just now.

    The current one comes first; what the others have signed is still accepted.

    Raises:
        ConfigurationError: none is configured and none can be made.
    """
    current, made = config.current, False
    if current is None:
        current, made = load_or_make_secret(config.file)
    return [current, *config.previous], made


def minting_secret(config: SecretConfig, algorithm: Algorithm) -> str:
    """The secret that new tokens are signed with; none is made.

    Raises:
        ConfigurationError: tokens are signed elsewhere, or the secret cannot be used.
        FileNotFoundError: there is no secret, since no server has made one here.
    """
    if algorithm != "HS256":
        raise ConfigurationError(
            f"STILLROOM_JWT_ALGORITHM is {algorithm}, so tokens are signed with a "
            "private key that is not here: get one from the issuer who holds it"
        )
    return load_secret(config.file) if config.current is None else config.current
