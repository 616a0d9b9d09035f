"""Files that hold text, put together as the tools do: by Pillow where it can, else byte by byte.

Nothing here uses the code that is tested, so that one mistake is not made on both sides.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pictures import encoded

ASCII: Final = 2
UNDEFINED: Final = 7
USER_COMMENT: Final = 0x9286
EXIF_IFD: Final = 0x8769


def picture(form: str, **how: object) -> bytes:
    return encoded(Image.new("RGB", (8, 6), (200, 90, 30)), form, **how)


PLAIN: Final = {form: picture(form) for form in ("PNG", "JPEG", "WEBP", "AVIF")}


def png(texts: Mapping[str, str], *, compressed: bool = False) -> bytes:
    """As most tools do: Pillow's tEXt, or iTXt for what Latin-1 lacks."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=compressed)
    return picture("PNG", pnginfo=info)


def png_itxt(name: str, text: str, *, compressed: bool = False) -> bytes:
    info = PngInfo()
    info.add_itxt(name, text, zip=compressed)
    return picture("PNG", pnginfo=info)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_with(*chunks: bytes, behind: bool = False) -> bytes:
    plain = PLAIN["PNG"]
    at = len(plain) - 12 if behind else 33
    return plain[:at] + b"".join(chunks) + plain[at:]


def tiff(entries: Mapping[int, tuple[int, bytes]], exif: Mapping[int, bytes], order: str) -> bytes:
    """An EXIF block; `entries` of its first directory (type, bytes), `exif` of its second."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    first = {**entries, EXIF_IFD: (4, b"")} if exif else dict(entries)
    start = 8 + 2 + 12 * len(first) + 4
    below = start + sum(len(value) for _, value in first.values() if len(value) > 4)
    out = struct.pack(order + "H", len(first))
    rest = b""
    for tag, (kind, value) in sorted(first.items()):
        if tag == EXIF_IFD:
            out += struct.pack(order + "HHII", tag, 4, 1, below)
        elif len(value) <= 4:
            out += struct.pack(order + "HHI", tag, kind, len(value)) + value.ljust(4, b"\0")
        else:
            out += struct.pack(order + "HHII", tag, kind, len(value), start + len(rest))
            rest += value
    out += bytes(4) + rest
    if exif:
        at = below + 2 + 12 * len(exif) + 4
        out += struct.pack(order + "H", len(exif))
        values = b""
        for tag, value in sorted(exif.items()):
            out += struct.pack(order + "HHII", tag, UNDEFINED, len(value), at + len(values))
            values += value
        out += bytes(4) + values
    return head + out


def commented(text: str, encoding: str = "unicode", order: str = ">") -> bytes:
    """EXIF with a UserComment: `unicode` as piexif writes it, `little` as .NET does."""
    value = {
        "unicode": lambda: b"UNICODE\0" + text.encode("utf-16-be"),
        "little": lambda: b"UNICODE\0" + text.encode("utf-16-le"),
        "ascii": lambda: b"ASCII\0\0\0" + text.encode("utf-8"),
        "jis": lambda: b"JIS\0\0\0\0\0" + text.encode("iso2022_jp"),
        "undefined": lambda: bytes(8) + text.encode("utf-8"),
    }[encoding]()
    return tiff({}, {USER_COMMENT: value}, order)


def with_exif(form: str, block: bytes) -> bytes:
    return picture(form, exif=b"Exif\0\0" + block)


def jpeg_comment(text: str) -> bytes:
    return picture("JPEG", comment=text.encode())


def with_xmp(form: str, packet: str) -> bytes:
    if form == "PNG":
        return png_itxt("XML:com.adobe.xmp", packet)
    return picture(form, xmp=packet.encode())


def jxl(kind: bytes, content: bytes) -> bytes:
    """A container of JPEG XL with one box of text behind its codestream."""
    stream = bytes.fromhex("ff0ac807200c001388020028")
    found = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4s", 20, b"ftyp") + b"jxl \0\0\0\0jxl "
    for name, inner in ((b"jxlc", stream), (kind, content)):
        found += struct.pack(">I4s", 8 + len(inner), name) + inner
    return found


IPTC: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def iptc(term: str = "trainedAlgorithmicMedia", form: str = "element") -> str:
    """A packet of XMP with DigitalSourceType in one of the forms that RDF has for it."""
    said = {
        "element": f"<e:DigitalSourceType>{IPTC}{term}</e:DigitalSourceType>",
        "resource": f'<e:DigitalSourceType rdf:resource="{IPTC}{term}"/>',
        "attribute": "",
    }[form]
    attribute = f' e:DigitalSourceType="{IPTC}{term}"' if form == "attribute" else ""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"{attribute}>{said}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def jumbf(size: int = 200, kind: bytes = b"c2pa") -> bytes:
    """A box as a manifest of C2PA is in; what is inside is nobody's signature."""
    uuid = kind + bytes.fromhex("00110010800000aa00389b71")
    return box(b"jumb", box(b"jumd", uuid + b"\3c2pa\0") + box(b"cbor", bytes(size)))


def with_c2pa(form: str, manifest: bytes, data: bytes | None = None) -> bytes:
    data = PLAIN[form] if data is None else data
    if form == "PNG":
        return data[:33] + chunk(b"caBX", manifest) + data[33:]
    if form == "JPEG":
        pieces = [manifest[at : at + 60_000] for at in range(0, len(manifest), 60_000)]
        found = b""
        for number, piece in enumerate(pieces, 1):
            repeated = manifest[:8] if number > 1 else b""
            content = b"JP" + struct.pack(">HI", 1, number) + repeated + piece
            found += b"\xff\xeb" + struct.pack(">H", len(content) + 2) + content
        return data[:2] + found + data[2:]
    if form == "WEBP":
        content = struct.pack("<4sI", b"C2PA", len(manifest)) + manifest + bytes(len(manifest) % 2)
        return b"RIFF" + struct.pack("<I", len(data) - 8 + len(content)) + data[8:] + content
    head = int.from_bytes(data[:4], "big")
    uuid = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
    content = uuid + bytes(4) + b"manifest\0" + bytes(8) + manifest
    return data[:head] + box(b"uuid", content) + data[head:]


def mp4(*boxes: bytes, behind: bool = False) -> bytes:
    """What of a video tells where its other boxes are; no player would show it."""
    ftyp, rest = box(b"ftyp", b"isom" + bytes(8)), box(b"mdat", bytes(300_000))
    extra = b"".join(boxes)
    moov = box(b"moov", box(b"mvhd", bytes(100)))
    return ftyp + (rest + moov + extra if behind else extra + moov + rest)
