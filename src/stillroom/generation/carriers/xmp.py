"""Reader and writer of the XMP properties that contain generation parameters or an AI mark.

Document type declarations are rejected, since XML entities can expand without limit.
Source: https://developer.adobe.com/xmp/docs/XMPSpecifications/ (part 1, 7: RDF in XML).
"""

import re
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

from stillroom.errors import UnsupportedMedia
from stillroom.generation.carriers.entries import Entries

_NAMESPACE: Final = "urn:stillroom:generation:1#"  # namespace of Stillroom's property `generation`
_IPTC_EXTENSION: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
SOURCE_TYPE: Final = "xmp:Iptc4xmpExt:DigitalSourceType"
"""IPTC property that states the kind of source of an image:
https://www.iptc.org/std/photometadata/specification/IPTC-PhotoMetadata#digital-source-type"""

# Value of DigitalSourceType for an image made by AI.
TRAINED: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DESCRIPTION: Final = f"{_RDF} Description"
_RESOURCE: Final = f"{_RDF} resource"
_ITEM: Final = f"{_RDF} li"
_NAMES: Final = {
    "http://purl.org/dc/elements/1.1/ description": "xmp:dc:description",
    "http://ns.adobe.com/xap/1.0/ CreatorTool": "xmp:xmp:CreatorTool",
    "http://ns.adobe.com/exif/1.0/ UserComment": "xmp:exif:UserComment",
    f"{_NAMESPACE} generation": "xmp:stillroom:generation",
    f"{_IPTC_EXTENSION} DigitalSourceType": SOURCE_TYPE,
}
_SPACES: Final = frozenset(name.partition(" ")[0] for name in (_DESCRIPTION, *_NAMES))
_MAX_DEPTH: Final = 32
_MAX_ELEMENTS: Final = 20_000
_LOOKS_OF_A_NAME: Final = 3  # plus one for each 8 levels, since each level may declare the prefix

_OPENING: Final = re.compile(rb"<rdf:RDF\b[^<>]*(?<!/)>")
_ABOUT: Final = re.compile(rb"rdf:about=(\"[^\"<>]{0,1024}\"|'[^'<>]{0,1024}')")
_OURS: Final = re.compile(
    rb"<rdf:Description rdf:about=[^<>]{0,1100} xmlns:stillroom=\""
    + re.escape(_NAMESPACE.encode())
    + rb"\"><stillroom:generation>[^<]*</stillroom:generation></rdf:Description>"
)
_BEFORE: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
).encode()
_CLOSING: Final = b"</rdf:RDF>"
_BEHIND: Final = b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'


def read(packet: bytes, entries: Entries) -> None:
    """Add the properties of an XMP packet to `entries`."""
    entries.budget.produce(len(packet))
    try:
        _Packet(entries).parse(packet)
    except (expat.ExpatError, ValueError, LookupError):  # LookupError: unknown encoding
        entries.mark_broken()


class _Packet:
    """Parser of an XMP packet. A property is an attribute or child element of rdf:Description."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._properties: list[tuple[str, str]] = []
        self._declared: list[dict[str, str]] = []
        self._open: list[str] = []
        self._elements = 0
        self._property: str | None = None
        self._items = 0
        self._text: list[str] = []

    def parse(self, packet: bytes) -> None:
        """Parse a packet, and add its properties to the entries."""
        # Expat's own namespace handling would prefix each name with the namespace's URI, which
        # can expand a packet of 1 MiB to gigabytes.
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse
        parser.Parse(packet.strip(b"\0"), True)
        for name, value in self._properties:  # like other readers, ignore all of a broken packet
            self._entries.add(name, value)

    def _begin(self, prefixed: str, raw: dict[str, str]) -> None:
        self._elements += 1
        self._entries.budget.look((_LOOKS_OF_A_NAME + len(self._open) // 8) * (1 + len(raw)))
        if len(self._open) > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise ValueError("the packet is nested too deeply or too large")
        declared = {key for key in raw if key == "xmlns" or key.startswith("xmlns:")}
        self._declared.append({key[6:]: raw[key] for key in declared})
        name = self._qualify(prefixed)
        attributes = {
            self._qualify(key) if ":" in key else key: value
            for key, value in raw.items()
            if key not in declared
        }
        if name == _DESCRIPTION and self._property is None:  # else it belongs to an ingredient
            known = [(_NAMES[key], value) for key, value in attributes.items() if key in _NAMES]
            self._properties += known
        elif self._open and self._open[-1] == _DESCRIPTION and self._property is None:
            self._property = name
            self._items = 0
            self._text = [attributes.get(_RESOURCE, "")]
        if name == _ITEM:
            self._items += 1
        self._open.append(name)

    def _qualify(self, prefixed: str) -> str:
        """Replace an XML name's prefix with its namespace, if that namespace is in `_SPACES`."""
        prefix, _, local = prefixed.rpartition(":")
        for declared in reversed(self._declared):
            if prefix in declared:
                space = declared[prefix]
                return f"{space} {local}" if space in _SPACES else prefixed
        if prefix not in ("", "xml"):
            raise ValueError("the prefix is not declared")
        return prefixed

    def _end(self, _: str) -> None:
        name = self._open.pop()
        self._declared.pop()
        if name == self._property and self._open[-1:] == [_DESCRIPTION]:
            if name in _NAMES:
                self._properties.append((_NAMES[name], "".join(self._text).strip()))
            self._property = None

    def _characters(self, text: str) -> None:
        # The first of several languages is the default.
        if self._property in _NAMES and self._items <= 1:
            self._text.append(text)


def _refuse(*_: object) -> None:
    raise ValueError("the packet has a document type declaration")


def with_mark(packet: bytes | None) -> bytes:
    """Return an XMP packet with the AI mark as the last property.

    The mark is after the generation parameters, so that embedding the same parameters again does
    not change the packet. Raises `UnsupportedMedia` if the packet has an unusual structure.
    """
    packet = _BEFORE + _BEHIND if packet is None else packet
    name, place = b"Iptc4xmpExt:DigitalSourceType", packet.rfind(_CLOSING)
    return _insert(packet, place, name, _IPTC_EXTENSION, TRAINED, failure="cannot add the AI mark")


def with_facts(packet: bytes | None, facts: bytes) -> bytes:
    """Return an XMP packet with generation parameters (JSON) as the first property."""
    packet = _BEFORE + _BEHIND if packet is None else _OURS.sub(b"", packet)
    name, text = b"stillroom:generation", escape(facts.decode("ascii"))
    return _insert(packet, None, name, _NAMESPACE, text, failure="cannot add metadata")


def _insert(
    packet: bytes, place: int | None, name: bytes, namespace: str, text: str, *, failure: str
) -> bytes:
    opening, about = _OPENING.search(packet), _ABOUT.search(packet)
    if opening is None or (place is not None and place < opening.end()):
        raise UnsupportedMedia(f"{failure}: the image's XMP metadata has an unusual structure")
    place = opening.end() if place is None else place
    prefix, _, _ = name.partition(b":")
    ours = b'<rdf:Description rdf:about=%s xmlns:%s="%s"><%s>%s</%s></rdf:Description>' % (
        about[1] if about else b'""', prefix, namespace.encode(), name, text.encode(), name,
    )  # fmt: skip
    return packet[:place] + ours + packet[place:]
