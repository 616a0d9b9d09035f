"""Somebody who issues tokens elsewhere: private keys, their public halves, and hand-made tokens.

Nothing of ours and no JWT library is used, so a mistake of theirs cannot hide ours.
"""

import base64
import functools
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from listening import Handler, listening

ALGORITHMS = ("RS256", "ES256", "EdDSA")
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_number(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True)
class Issuer:
    algorithm: str
    key: PrivateKey
    kid: str = "k1"

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def private_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def jwk(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        if isinstance(self.key, rsa.RSAPrivateKey):
            numbers = self.key.public_key().public_numbers()
            found |= {"kty": "RSA", "n": encode_number(numbers.n), "e": encode_number(numbers.e)}
        elif isinstance(self.key, ec.EllipticCurvePrivateKey):
            point = self.key.public_key().public_numbers()
            width = (self.key.key_size + 7) // 8
            found |= {
                "kty": "EC",
                "crv": {256: "P-256", 384: "P-384"}[self.key.key_size],
                "x": encode(point.x.to_bytes(width, "big")),
                "y": encode(point.y.to_bytes(width, "big")),
            }
        else:
            raw = self.key.public_key().public_bytes_raw()
            found |= {"kty": "OKP", "crv": "Ed25519", "x": encode(raw)}
        return found

    def sign(self, data: bytes) -> bytes:
        """A signature in the form of RFC 7518, 3, and RFC 8037, 3.1."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), SHA256())
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(SHA256())))
            width = (self.key.key_size + 7) // 8
            return r.to_bytes(width, "big") + s.to_bytes(width, "big")
        return self.key.sign(data)

    def token(self, payload: Any = None, header: Any = None, **claims: Any) -> str:
        """A token with these claims, by default for an hour and with all rights."""
        if payload is None:
            payload = {"exp": time.time() + 3600, "scope": EVERYTHING, **claims}
        if header is None:
            header = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid}
        body = unsigned(header, payload)
        return f"{body}.{encode(self.sign(body.encode()))}"


EVERYTHING = "storage:read storage:write storage:delete media"


def unsigned(header: Any, payload: Any) -> str:
    """The first two parts of a token; text stands as it is, anything else as JSON."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, payload)]
    return ".".join(encode(part.encode()) for part in parts)


def signed_by_secret(header: Any, payload: Any, secret: str | bytes) -> str:
    """A token with an HMAC-SHA256, whatever its header says."""
    body = unsigned(header, payload)
    key = secret if isinstance(secret, bytes) else secret.encode()
    return f"{body}.{encode(hmac.digest(key, body.encode(), hashlib.sha256))}"


def make_key(algorithm: str) -> PrivateKey:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


@functools.cache
def issuer(algorithm: str, kid: str = "k1") -> Issuer:
    """The same one for the same names: RSA keys take their time."""
    return Issuer(algorithm, make_key(algorithm), kid)


def public_key_file(folder: Path, made_by: Issuer) -> Path:
    file = folder / f"{made_by.algorithm}.pem"
    file.write_bytes(made_by.public_pem)
    return file


@dataclass
class KeyServer:
    """An identity provider's key set over HTTP, and all that can go wrong with it.

    It answers as long as `may_answer` is set; until then it `drips` a byte now and then, or none.
    """

    url: str = ""
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fetched: int = 0
    asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)
    drips: bool = False

    def publish(self, *issuers: Issuer) -> None:
        self.body = json.dumps({"keys": [found.jwk for found in issuers]}).encode()

    def hang(self) -> None:
        self.asked.clear()
        self.may_answer.clear()


@contextmanager
def key_server(*issuers: Issuer, certificate: Path | None = None) -> Iterator[KeyServer]:
    served = KeyServer()
    served.publish(*issuers)
    served.may_answer.set()

    class Answering(Handler):
        def get(self) -> None:
            served.fetched += 1
            served.asked.set()
            with suppress(OSError):  # whoever asked did not want to wait
                while not served.may_answer.wait(0.2):
                    if served.drips:
                        self.wfile.write(b"H")
                self.answer(served.status, served.body, served.headers)

    with listening(Answering, certificate) as url:
        served.url = f"{url}/jwks.json"
        try:
            yield served
        finally:
            served.may_answer.set()
