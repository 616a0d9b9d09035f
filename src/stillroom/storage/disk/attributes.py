"""Extended attribute of an image file with its SHA-256 and content type.

It also records the modification time for which they are valid: a file that is edited or copied in
by hand has another one, and its facts are ignored. They are packed into about 60 bytes, because
that fits into an ext4 inode (256 bytes); more would cost every image an additional block.
"""

import os
import struct
from dataclasses import dataclass
from typing import Final, Self

NAME: Final = "user.stillroom"

_LAYOUT: Final = struct.Struct("<BQ32s")  # version, modified_ns, SHA-256; the type follows
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Attributes:
    """Facts that only a full read of the file could find out again."""

    modified_ns: int
    sha256: bytes
    content_type: str

    def write(self, fd: int) -> None:
        """Write the attributes to an open file.

        Raises:
            OSError: the filesystem has no space for attributes, or does not support them.
        """
        head = _LAYOUT.pack(_VERSION, self.modified_ns, self.sha256)
        os.setxattr(fd, NAME, head + self.content_type.encode("ascii"))

    @classmethod
    def read(cls, fd: int, modified_ns: int) -> Self | None:
        """Return the attributes of an open file, or None if it has none that are valid."""
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
        """Return the hash recorded for another modification time of the file, if any."""
        try:
            version, _, sha256 = _LAYOUT.unpack_from(os.getxattr(fd, NAME))
        except (OSError, struct.error):
            return None
        return bytes(sha256) if version == _VERSION else None
