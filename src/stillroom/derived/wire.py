"""What the server and a decoding process say to each other over their socket.

A job is `JOB`, with the open original beside it as a descriptor; an answer is `ANSWER`, and as
many bytes as it says. A process has one job at a time.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

from stillroom.http.derivation import Derivation

JOB: Final = struct.Struct("!II?4sB")
ANSWER: Final = struct.Struct("!cI")

MADE: Final = b"+"
"""The picture follows."""

TOO_MANY_PIXELS: Final = b">"
TOO_MANY_SCANS: Final = b"~"
CUT_OFF: Final = b"<"
"""The file ends before its image does."""

UNDECODABLE: Final = b"-"
"""Nothing follows: whatever a decoder says about a stranger's file stays where it was said."""

BROKEN: Final = b"!"
"""No image can be decoded here. Why follows, for the log."""

COLOR: Final = "hex"
"""In the place of a format: the answer is the dominant colour, `#rrggbb`, or nothing at all."""

_COLOR_SIDE: Final = 64

OUT_OF_MEMORY: Final = 3
"""The status of a process that ended because an image needed more memory than it has."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a decoding process is told of a `Derivation`."""

    width: int
    height: int
    covers: bool
    format: str
    quality: int

    @classmethod
    def of(cls, wanted: Derivation) -> Self:
        """The job that makes what is wanted."""
        return cls(
            wanted.width, wanted.height, wanted.fit == "cover", wanted.format, wanted.quality
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """What `pack` has packed."""
        width, height, covers, form, quality = JOB.unpack(data)
        return cls(width, height, covers, form.decode("ascii").rstrip("\0"), quality)

    @classmethod
    def of_color(cls) -> Self:
        """The job that finds the dominant colour; as many pixels are looked at as are here."""
        return cls(_COLOR_SIDE, _COLOR_SIDE, covers=False, format=COLOR, quality=0)

    def pack(self) -> bytes:
        """For the socket."""
        form = self.format.encode("ascii")
        return JOB.pack(self.width, self.height, self.covers, form, self.quality)
