"""Extended attribute of an image file, which stores its SHA-256 and content type.

The attribute also contains the modification time for which it is valid. If the file was edited or
replaced by hand, the times differ and the attribute is ignored. An attribute has 60 bytes and fits
into an ext4 inode (256 bytes). A larger attribute would need an additional block per image.
"""

import os
import struct
from dataclasses import dataclass
from typing import Final, Self

NAME: Final = "user.stillroom"

_LAYOUT: Final = struct.Struct("<BQ32s")  # version, modified_ns, SHA-256; then the type
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Attributes:
    """Metadata that could otherwise be computed only by reading the whole file."""

    modified_ns: int
    sha256: bytes
    content_type: str

    def write(self, fd: int) -> None:
        """Write the attributes to an open file. Raises `OSError` if space or support is missing."""
        head = _LAYOUT.pack(_VERSION, self.modified_ns, self.sha256)
        os.setxattr(fd, NAME, head + self.content_type.encode("ascii"))

    @classmethod
    def read(cls, fd: int, modified_ns: int) -> Self | None:
        """Return the attributes of an open file, or None if they are missing or outdated."""
        try:
            value = os.getxattr(fd, NAME)
            version, noted_ns, sha256 = _LAYOUT.unpack_from(value)
            content_type = value[_LAYOUT.size :].decode("ascii")
        except (OSError, struct.error, UnicodeDecodeError):
            return None
        if version != _VERSION or noted_ns != modified_ns or not content_type:
            return None
        return cls(noted_ns, sha256, content_type)

    @staticmethod
    def outdated_sha256(fd: int) -> bytes | None:
        """Return the recorded SHA-256, if any, even if the file has been modified since."""
        try:
            version, _, sha256 = _LAYOUT.unpack_from(os.getxattr(fd, NAME))
        except (OSError, struct.error):
            return None
        return bytes(sha256) if version == _VERSION else None
