"""Writer of ZIP files. It returns the bytes in order, needs constant memory and does no I/O.

Entries are stored uncompressed: images are compressed already. A checksum follows the bytes,
so that no file is read twice. ZIP64 records are used for sizes that do not fit into 32 bits, and
for counts that do not fit into 16 bits. The layouts are from sections 4.3-4.5 of
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT.
"""

import re
import struct
import time
import zlib
from typing import Final

LIMIT_32: Final = 0xFFFFFFFF
LIMIT_16: Final = 0xFFFF

_FLAGS: Final = 0x0808  # the checksum follows the bytes (bit 3), the name is UTF-8 (bit 11)
_STORED: Final = 0
_PLAIN: Final = 20
_ZIP64: Final = 45
_MADE_ON_UNIX: Final = 3
_FILE_MODE: Final = 0o100644 << 16
_FIRST_YEAR: Final = 1980
_LAST_YEAR: Final = 2107
_DEVICE: Final = r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])"
_ESCAPED: Final = re.compile(
    r"%(?=[0-9a-f]{2})"  # without this, an escaped name could equal another name
    r'|[<>:"|?*]'
    r"|[. ](?=/|\Z)"
    rf"|(?<![^/])(?={_DEVICE} *(?:[./]|\Z))[a-z]",
    re.IGNORECASE,
)
"""Characters that are percent-encoded in entry names, because Windows does not allow them:
https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file#naming-conventions"""


class ZipWriter:
    """ZIP file writer. Its methods return consecutive parts of the file."""

    def __init__(self) -> None:
        self.entries = 0
        self.offset = 0  # number of bytes returned so far, without the directory
        self.size = 0  # number of bytes of the current entry so far
        self._name = b""
        self._at = self._crc = 0
        self._is_large = False
        self._modified = (0, 0)

    def begin(self, name: str, size: int, modified_ns: int) -> bytes:
        """Begin an entry of `size` bytes and return its header."""
        self._name, self._at = safe_name(name).encode("utf-8"), self.offset
        self.size = self._crc = 0
        self._is_large = size >= LIMIT_32
        self._modified = _dos_time(modified_ns)
        self.entries += 1
        extra = struct.pack("<HHQQ", 1, 16, 0, 0) if self._is_large else b""
        fields = self._fields(0, LIMIT_32 if self._is_large else 0, extra)
        return self._count(b"PK\x03\x04" + fields + self._name + extra)

    def _fields(self, crc: int, size: int, extra: bytes) -> bytes:
        version, lengths = _ZIP64 if extra else _PLAIN, (len(self._name), len(extra))
        return struct.pack(
            "<5H3L2H", version, _FLAGS, _STORED, *self._modified, crc, size, size, *lengths
        )

    def data(self, chunk: bytes) -> bytes:
        """Add bytes to the current entry, and return them unchanged."""
        self._crc = zlib.crc32(chunk, self._crc)
        self.size += len(chunk)
        return self._count(chunk)

    def end_entry(self) -> tuple[bytes, bytes]:
        """Return the data descriptor (sent after the entry's bytes) and the directory record."""
        layout = "<4sLQQ" if self._is_large else "<4s3L"
        tail = struct.pack(layout, b"PK\x07\x08", self._crc, self.size, self.size)
        return self._count(tail), self._record()

    def _record(self) -> bytes:
        large: list[int] = []
        size, at = self.size, self._at
        if self._is_large or size >= LIMIT_32:
            large += [size, size]
            size = LIMIT_32
        if at >= LIMIT_32:
            large.append(at)
            at = LIMIT_32
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        fields = self._fields(self._crc, size, extra)
        head = b"PK\x01\x02" + fields[:1] + bytes([_MADE_ON_UNIX]) + fields
        return head + struct.pack("<3H2L", 0, 0, 0, _FILE_MODE, at) + self._name + extra

    def end(self, directory_size: int) -> bytes:
        """Return the end records that follow the directory, which has `directory_size` bytes."""
        count, at, zip64 = self.entries, self.offset, b""
        if count >= LIMIT_16 or at >= LIMIT_32 or directory_size >= LIMIT_32:
            version = _MADE_ON_UNIX << 8 | _ZIP64
            zip64 += struct.pack("<4sQ2H2L", b"PK\x06\x06", 44, version, _ZIP64, 0, 0)
            zip64 += struct.pack("<4Q", count, count, directory_size, at)
            zip64 += struct.pack("<4sLQL", b"PK\x06\x07", 0, at + directory_size, 1)
            count, at = min(count, LIMIT_16), min(at, LIMIT_32)
            directory_size = min(directory_size, LIMIT_32)
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, directory_size, at, 0)
        return zip64 + end

    def _count(self, data: bytes) -> bytes:
        self.offset += len(data)
        return data


def safe_name(path: str) -> str:
    """Return an image's path as an entry name that is valid on every operating system.

    Characters that Windows would reject, drop or misinterpret are percent-encoded, and so is a `%`
    that looks like the start of an encoded character. Different paths thus have different names.
    Image paths never contain `..`, backslashes, control characters or a leading slash (`paths.py`).
    """
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", path)


def _dos_time(modified_ns: int) -> tuple[int, int]:
    when = time.gmtime(modified_ns // 1_000_000_000)
    if when.tm_year < _FIRST_YEAR:
        return 0, 1 << 5 | 1
    years = min(when.tm_year, _LAST_YEAR) - _FIRST_YEAR
    clock = when.tm_hour << 11 | when.tm_min << 5 | min(when.tm_sec, 59) // 2
    return clock, years << 9 | when.tm_mon << 5 | when.tm_mday
