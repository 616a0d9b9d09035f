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
"""Response: the content is the thumbnail."""

TOO_MANY_PIXELS: Final = b">"
TOO_MANY_SCANS: Final = b"~"
CUT_OFF: Final = b"<"
"""Response: the file is truncated."""

UNDECODABLE: Final = b"-"
"""Response: the image cannot be decoded. Decoder messages about untrusted files are not sent."""

BROKEN: Final = b"!"
"""Response: the process cannot decode any image. The content is the reason, for the log."""

COLOR: Final = "hex"
"""Pseudo-format: the content is the dominant colour as `#rrggbb`, or empty."""

_COLOR_SIDE: Final = 64

OUT_OF_MEMORY: Final = 3
"""Exit status after an image needed too much memory."""


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
        """Encode the job as bytes to send over the socket."""
        form = self.format.encode("ascii")
        return JOB.pack(self.width, self.height, self.covers, form, self.quality)
