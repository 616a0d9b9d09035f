"""Protocol of the socket between the server and a decoding process.

The server sends a structure `JOB` and a file descriptor of the original. The process responds with
a structure `RESPONSE` (kind and length) and the content. A process runs one job at a time.
"""

import struct
from typing import Final, NamedTuple, Self

from stillroom.features.pictures.derivation import Derivation

JOB: Final = struct.Struct("!II?4sB")
RESPONSE: Final = struct.Struct("!cI")

# Kinds of responses. Messages of decoders are not sent: they may contain text of a hostile file.
MADE: Final = b"+"  # the content is the thumbnail or the dominant colour
TOO_MANY_PIXELS: Final = b">"
TOO_MANY_SCANS: Final = b"~"
CUT_OFF: Final = b"<"  # the file of the image is truncated
UNDECODABLE: Final = b"-"
BROKEN: Final = b"!"  # the process cannot decode any image; the content is the reason, for the log

COLOR: Final = "hex"  # `format` of a job that computes the dominant colour (`#rrggbb`, or empty)
OUT_OF_MEMORY: Final = 3  # exit status after an image needed too much memory


class Refused(Exception):
    """Exception for an image that is not decoded. Its argument is the kind of the response."""


class Job(NamedTuple):
    """Job for a decoding process: make a thumbnail, or compute the dominant colour."""

    width: int
    height: int
    covers: bool
    format: str
    quality: int

    @classmethod
    def of(cls, derivation: Derivation) -> Self:
        """Return the job that makes a thumbnail."""
        sides, covers = (derivation.width, derivation.height), derivation.fit == "cover"
        return cls(*sides, covers, derivation.format, derivation.quality)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Decode a job from the bytes that `pack` returns."""
        width, height, covers, form, quality = JOB.unpack(data)
        return cls(width, height, covers, form.decode("ascii").rstrip("\0"), quality)

    def pack(self) -> bytes:
        """Encode the job as bytes."""
        return JOB.pack(*self[:3], self.format.encode("ascii"), self.quality)


# Job that computes the dominant colour from a small version of the image.
COLOR_JOB: Final = Job(64, 64, covers=False, format=COLOR, quality=0)
