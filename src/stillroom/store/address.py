"""Address of a bucket, with path-style or virtual-hosted-style URLs (terms of S3).

https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Literal, Self
from urllib.parse import quote, urlsplit

from stillroom.errors import ConfigurationError

Addressing = Literal["path", "virtual"]  # position of the bucket's name: path or host name

_PORTS: Final = {"http": 80, "https": 443}
_HOST_LABELS: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61}[a-z0-9])")
"""Amazon's rule for bucket names. Names that follow it are also valid in host names.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Address of a bucket at an endpoint."""

    scheme: str
    hostname: str  # host name or IP address (without brackets) to connect to, as in the certificate
    port: int
    root: str  # percent-encoded path of the bucket itself, without a slash at the end
    name: str  # percent-encoded name of the bucket

    @classmethod
    def of(cls, endpoint_url: str, bucket: str, addressing: Addressing = "path") -> Self:
        """Return the address of `bucket`. Raises `ConfigurationError` if it cannot be addressed."""
        parts = urlsplit(endpoint_url)
        hostname, name = parts.hostname or "", quote(bucket, safe="")
        root = parts.path.rstrip("/")
        if addressing == "virtual":
            _check_virtual(hostname, bucket)
            hostname = f"{bucket}.{hostname}"
        else:
            root = f"{root}/{name}"
        port = parts.port or _PORTS.get(parts.scheme, 443)
        return cls(parts.scheme, hostname, port, root, name)

    @property
    def host(self) -> str:
        """Value of the `Host` header, including the port unless it is the scheme's default."""
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return host if self.port == _PORTS.get(self.scheme) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Origin of the bucket's URLs: scheme, host and port."""
        return f"{self.scheme}://{self.host}"

    def path_of(self, key: str) -> str:
        """Return the percent-encoded path of an object, or of the bucket if the key is empty."""
        return f"{self.root}/{quote(key, safe='/')}" if key else self.root or "/"


def _check_virtual(hostname: str, bucket: str) -> None:
    if not _HOST_LABELS.fullmatch(bucket):
        raise ConfigurationError(
            "R2_ADDRESSING=virtual needs a bucket name that is valid in a host name "
            "(lower-case letters, digits, hyphens and dots): set R2_ADDRESSING to path"
        )
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return
    raise ConfigurationError(
        "R2_ADDRESSING=virtual needs a host name in R2_ENDPOINT_URL instead of an IP address: "
        "set R2_ADDRESSING to path"
    )
