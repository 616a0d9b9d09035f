"""Where a bucket is found: path-style or virtual-hosted, as S3's documents call the two.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Literal, Self
from urllib.parse import quote, urlsplit

from stillroom.errors import ConfigurationError

Addressing = Literal["path", "virtual"]
"""The bucket's name is the first segment of the path, or the first label of the host."""

_PORTS: Final = {"http": 80, "https": 443}

_HOST_LABELS: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61}[a-z0-9])")
"""Amazon's rule for names of buckets, all of which can stand in a host.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """A bucket behind an endpoint.

    Attributes:
        scheme: `http` or `https`.
        hostname: What is connected to, and what a certificate must be for; without brackets.
        port: Of TCP.
        root: The path of the bucket itself, quoted, without a slash at the end.
        name: Of the bucket, quoted.
    """

    scheme: str
    hostname: str
    port: int
    root: str
    name: str

    @classmethod
    def of(cls, endpoint_url: str, bucket: str, addressing: Addressing = "path") -> Self:
        """The address of `bucket` behind `endpoint_url`, which may have a path.

        Raises:
            ConfigurationError: the bucket's name cannot stand in front of the endpoint's host.
        """
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
        """As the Host field has it: with the port unless it is the scheme's own."""
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return host if self.port == _PORTS.get(self.scheme) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What URLs of its objects begin with, as browsers write an origin."""
        return f"{self.scheme}://{self.host}"

    def path_of(self, key: str) -> str:
        """The path of an object, quoted; of the bucket itself without a key."""
        return f"{self.root}/{quote(key, safe='/')}" if key else self.root or "/"


def _check_virtual(hostname: str, bucket: str) -> None:
    if not _HOST_LABELS.fullmatch(bucket):
        raise ConfigurationError(
            "R2_ADDRESSING=virtual needs a bucket whose name can stand in a host name "
            "(small letters, digits, hyphens and dots): set R2_ADDRESSING to path"
        )
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return
    raise ConfigurationError(
        "R2_ADDRESSING=virtual needs a host name in R2_ENDPOINT_URL, and it has an address: "
        "set R2_ADDRESSING to path"
    )
