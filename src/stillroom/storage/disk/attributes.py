"""Extended attributes of an image file: its SHA-256 and content type.

One extended attribute holds both, with the modification time that they belong
to: a file that is edited or copied in by hand has another one, and its
facts are not believed. It is packed into some 60 bytes because that fits into
an ext4 inode (256 bytes); a larger one would cost every image a block of its own.
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
    """The facts that cost a full read to find out again."""

    modified_ns: int
    sha256: bytes
    content_type: str

    def write(self, fd: int) -> None:
        """Set them on an open file.

        Raises:
            OSError: the filesystem has no room for them, or none at all.
        """
        head = _LAYOUT.pack(_VERSION, self.modified_ns, self.sha256)
        os.setxattr(fd, NAME, head + self.content_type.encode("ascii"))

    @classmethod
    def read(cls, fd: int, modified_ns: int) -> Self | None:
        """The attributes of an open file, or None if it has none that still hold."""
        try:
            raw = os.getxattr(fd, NAME)
            version, noted_ns, sha256 = _LAYOUT.unpack_from(raw)
            content_type = raw[_LAYOUT.size :].decode("ascii")
        except (OSError, struct.error, UnicodeDecodeError):
            return None
        if version != _VERSION or noted_ns != modified_ns or not content_type:
            return None
        return cls(noted_ns, sha256, content_type)

    @staticmethod
    def outdated_sha256(fd: int) -> bytes | None:
        """The hash that was noted for another time of the file, if any was."""
        try:
            version, _, sha256 = _LAYOUT.unpack_from(os.getxattr(fd, NAME))
        except (OSError, struct.error):
            return None
        return bytes(sha256) if version == _VERSION else None
