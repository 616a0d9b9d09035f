"""Keys that can be used, and settings that contradict each other."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuing import ALGORITHMS, Issuer, issuer, public_key_file
from stillroom.errors import ConfigurationError
from stillroom.settings import AllSettings
from stillroom.store.auth.choose import minting_secret, open_keys
from stillroom.store.auth.config import SecretConfig
from stillroom.store.auth.keys import Algorithm, PublicKeyFile, check_secrets


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_of_another_kind_is_refused(algorithm: Algorithm, tmp_path: Path) -> None:
    for other in ALGORITHMS:
        file = public_key_file(tmp_path, issuer(other))
        if other == algorithm:
            PublicKeyFile(file, algorithm)
        else:
            with pytest.raises(ConfigurationError, match="STILLROOM_JWT_ALGORITHM"):
                PublicKeyFile(file, algorithm)


def test_a_key_of_another_size_or_curve_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    small = rsa.generate_private_key(65537, 1024)
    unsuited: dict[
        Algorithm, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey
    ]
    unsuited = {
        "RS256": small,
        "ES256": ec.generate_private_key(ec.SECP384R1()),
        "EdDSA": ed448.Ed448PrivateKey.generate(),
    }
    for algorithm, key in unsuited.items():
        file.write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        with pytest.raises(ConfigurationError, match="does not match"):
            PublicKeyFile(file, algorithm)


def test_a_file_that_does_not_hold_one_public_key_is_refused(tmp_path: Path) -> None:
    made_by = issuer("ES256")
    for content, says in (
        (b"", "exactly one public key"),
        (b"no key", "exactly one public key"),
        (made_by.public_pem * 2, "exactly one public key"),
        (made_by.public_pem.replace(b"MF", b"!!"), "exactly one public key"),
        (b"\xff" * 100_000, "exactly one public key"),
        (made_by.private_pem, "private key"),
        (made_by.public_pem + made_by.private_pem, "private key"),
    ):
        file = tmp_path / "key.pem"
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match=says):
            PublicKeyFile(file, "ES256")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        PublicKeyFile(tmp_path / "missing.pem", "ES256")


def test_a_public_key_is_no_secret() -> None:
    pem = Issuer("ES256", ec.generate_private_key(ec.SECP256R1())).public_pem.decode()
    with pytest.raises(ConfigurationError, match="STILLROOM_JWT_PUBLIC_KEY_FILE"):
        check_secrets([pem])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_token_is_minted_for_keys_that_are_not_here(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_JWT_ALGORITHM", algorithm)
    with pytest.raises(ConfigurationError, match="STILLROOM_JWT_ALGORITHM"):
        minting_secret(SecretConfig(tmp_path / "secret"), AllSettings.read().jwt_algorithm)


CONTRADICTIONS: dict[str, tuple[dict[str, str], str]] = {
    "a secret's algorithm with a file": (
        {"JWT_PUBLIC_KEY_FILE": "ES256.pem"},
        "JWT_PUBLIC_KEY_FILE",
    ),
    "a secret's algorithm with a set": (
        {"JWT_JWKS_URL": "https://id.example/jwks", "JWT_AUDIENCE": "us"},
        "JWT_JWKS_URL",
    ),
    "two sources": (
        {
            "JWT_ALGORITHM": "ES256",
            "JWT_JWKS_URL": "https://id.example/jwks",
            "JWT_AUDIENCE": "us",
            "JWT_PUBLIC_KEY_FILE": "ES256.pem",
        },
        "JWT_JWKS_URL and STILLROOM_JWT_PUBLIC_KEY_FILE",
    ),
    "a set for nobody": (
        {"JWT_ALGORITHM": "ES256", "JWT_JWKS_URL": "https://id.example/jwks"},
        "JWT_JWKS_URL needs STILLROOM_JWT_AUDIENCE",
    ),
    "a set for an empty audience": (
        {
            "JWT_ALGORITHM": "ES256",
            "JWT_JWKS_URL": "https://id.example/jwks",
            "JWT_AUDIENCE": "",
        },
        "JWT_JWKS_URL needs STILLROOM_JWT_AUDIENCE",
    ),
    **{
        url: ({"JWT_ALGORITHM": "ES256", "JWT_JWKS_URL": url, "JWT_AUDIENCE": "us"}, "JWT_JWKS_URL")
        for url in (
            "http://id.example/jwks",
            "ftp://id.example/jwks",
            "file:///etc/passwd",
            "id.example/jwks",
            "https://",
            "https://me:password@id.example/jwks",
            "https://id.example:x/jwks",
            "http://127.0.0.1.example/jwks",
        )
    },
    "no key": ({"JWT_ALGORITHM": "ES256"}, "JWT_PUBLIC_KEY_FILE"),
    "an unknown algorithm": ({"JWT_ALGORITHM": "none"}, "JWT_ALGORITHM"),
    "another kind of key": (
        {"JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY_FILE": "ES256.pem"},
        "JWT_ALGORITHM",
    ),
}


@pytest.mark.parametrize(
    ("environment", "says"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys()
)
def test_contradictory_settings_stop_the_start(
    environment: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    public_key_file(tmp_path, issuer("ES256"))
    for name, value in environment.items():
        monkeypatch.setenv(f"STILLROOM_{name}", value)

    with pytest.raises(ConfigurationError, match=f"STILLROOM_{says}"):
        open_keys(AllSettings.read().keys)


def test_reading_settings_writes_nothing_and_opening_their_keys_makes_the_secret(
    tmp_path: Path,
) -> None:
    settings = AllSettings.of_values(data_dir=tmp_path)

    assert settings.secret == settings.keys == SecretConfig(tmp_path / ".stillroom/secret")
    assert list(tmp_path.iterdir()) == []
    open_keys(settings.keys)
    assert settings.secret_file.exists()


def test_a_secret_does_not_stand_in_the_text_of_its_settings() -> None:
    secret = SecretConfig(Path("secret"), current="s" * 32, previous=("t" * 32,))

    assert "sss" not in repr(secret)
    assert "ttt" not in repr(secret)
