"""Socket protocol between the server and a decoding process, which runs one job at a time.

The server sends a `JOB` structure and a file descriptor for the original. The process responds with
a `RESPONSE` structure that contains a length, followed by that many bytes of content.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

from stillroom.http.derivation import Derivation

JOB: Final = struct.Struct("!II?4sB")
RESPONSE: Final = struct.Struct("!cI")

MADE: Final = b"+"
"""The thumbnail follows."""

TOO_MANY_PIXELS: Final = b">"
TOO_MANY_SCANS: Final = b"~"
CUT_OFF: Final = b"<"
"""The file ends before its image does."""

UNDECODABLE: Final = b"-"
"""Nothing follows: a decoder's messages about an untrusted file never leave its process."""

BROKEN: Final = b"!"
"""No image can be decoded here. The reason follows, for the log."""

COLOR: Final = "hex"
"""In place of a format: the response is the dominant colour, `#rrggbb`, or empty."""

_COLOR_SIDE: Final = 64

OUT_OF_MEMORY: Final = 3
"""Exit status of a process that ended because an image needed too much memory."""


@dataclass(frozen=True, slots=True)
class Job:
    """Job for a decoding process: a thumbnail or a dominant colour to compute."""

    width: int
    height: int
    covers: bool
    format: str
    quality: int

    @classmethod
    def of(cls, derivation: Derivation) -> Self:
        """Create the job that makes a thumbnail."""
        return cls(
            derivation.width,
            derivation.height,
            derivation.fit == "cover",
            derivation.format,
            derivation.quality,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Parse a job that `pack` has encoded."""
        width, height, covers, form, quality = JOB.unpack(data)
        return cls(width, height, covers, form.decode("ascii").rstrip("\0"), quality)

    @classmethod
    def of_color(cls) -> Self:
        """Create the job that computes the dominant colour, from a small thumbnail."""
        return cls(_COLOR_SIDE, _COLOR_SIDE, covers=False, format=COLOR, quality=0)

    def pack(self) -> bytes:
        """Encode the job for the socket."""
        form = self.format.encode("ascii")
        return JOB.pack(self.width, self.height, self.covers, form, self.quality)
