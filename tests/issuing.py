"""Somebody who issues tokens elsewhere: private keys, their public halves, and hand-made tokens.

Nothing of ours and no JWT library is used, so a mistake of theirs cannot hide ours.
"""

import base64
import functools
import hashlib
import hmac
import http.server
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_number(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True)
class Issuer:
    """One private key, and what is made with it."""

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
        """The public half as RFC 7517 and RFC 8037 write it."""
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

    Attributes:
        body: What is answered; see `publish`.
        fetched: How often it was asked.
        hangs: Whether answers wait until this is unset again; dripping a byte now and then.
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
    """A real server on a free port of this machine; with a certificate it speaks TLS."""
    served = KeyServer()
    served.publish(*issuers)
    served.may_answer.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.fetched += 1
            served.asked.set()
            try:
                while not served.may_answer.wait(0.2):
                    if served.drips:
                        self.wfile.write(b"H")
                self.send_response(served.status)
                for name, value in served.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(served.body)
            except OSError:
                pass  # whoever asked did not want to wait

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        served.url = f"{scheme}://127.0.0.1:{server.server_port}/jwks.json"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            served.may_answer.set()
            server.shutdown()
            thread.join()


def self_signed(folder: Path, *names: str) -> Path:
    """A certificate for 127.0.0.1, or for these names, that nobody vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    holders: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
    holders = holders or [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(holders), critical=False)
        .sign(key, SHA256())
    )
    file = folder / "tls.pem"
    file.write_bytes(
        made.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return file
