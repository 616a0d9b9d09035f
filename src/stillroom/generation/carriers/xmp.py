"""XMP: the few properties that tools keep facts in, out of a packet of RDF.

A document type is refused, since entities are how small documents become large ones.
Source: https://developer.adobe.com/xmp/docs/XMPSpecifications/ (part 1, 7: RDF in XML).
"""

from typing import Final
from xml.parsers import expat

from stillroom.generation.carriers.entries import Entries

NAMESPACE: Final = "urn:stillroom:generation:1#"
"""Of our own property, `generation`; a name of its own, since there is no address to point to."""

IPTC_EXTENSION: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
SOURCE_TYPE: Final = "xmp:Iptc4xmpExt:DigitalSourceType"
"""https://www.iptc.org/std/photometadata/specification/IPTC-PhotoMetadata#digital-source-type."""

RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DESCRIPTION: Final = f"{RDF} Description"
_RESOURCE: Final = f"{RDF} resource"
_ITEM: Final = f"{RDF} li"
_NAMES: Final = {
    "http://purl.org/dc/elements/1.1/ description": "xmp:dc:description",
    "http://ns.adobe.com/xap/1.0/ CreatorTool": "xmp:xmp:CreatorTool",
    "http://ns.adobe.com/exif/1.0/ UserComment": "xmp:exif:UserComment",
    f"{NAMESPACE} generation": "xmp:stillroom:generation",
    f"{IPTC_EXTENSION} DigitalSourceType": SOURCE_TYPE,
}
_SPACES: Final = frozenset(name.partition(" ")[0] for name in (_DESCRIPTION, *_NAMES))
_MAX_DEPTH: Final = 32
_MAX_ELEMENTS: Final = 20_000


def read(packet: bytes, found: Entries) -> None:
    """What is in a packet; whatever is no XMP is nothing."""
    found.budget.produce(len(packet))
    try:
        _Packet(found).parse(packet)
    except (expat.ExpatError, _Refused, ValueError, LookupError):  # an encoding of no such name
        found.lose()


class _Refused(Exception):
    """Larger, deeper or of another kind than packets are."""


class _Packet:
    """The reading of one packet: a property is a child of rdf:Description, or its attribute."""

    def __init__(self, found: Entries) -> None:
        self._found = found
        self._said: list[tuple[str, str]] = []
        self._declared: list[dict[str, str]] = []
        self._open: list[str] = []
        self._elements = 0
        self._property: str | None = None
        self._items = 0
        self._text: list[str] = []

    def parse(self, packet: bytes) -> None:
        # Expat would put the whole address of a namespace in front of each name in it: a packet of
        # 1 MiB would become gigabytes.
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse
        parser.Parse(packet.strip(b"\0"), True)
        for name, value in self._said:  # other readers take nothing from a broken packet, either
            self._found.add(name, value)

    def _begin(self, prefixed: str, given: dict[str, str]) -> None:
        self._elements += 1
        self._found.budget.look(1 + len(given))
        if len(self._open) > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise _Refused
        declared = {one for one in given if one == "xmlns" or one.startswith("xmlns:")}
        self._declared.append({one[6:]: given[one] for one in declared})
        name = self._resolved(prefixed)
        attributes = {
            self._resolved(one) if ":" in one else one: value
            for one, value in given.items()
            if one not in declared
        }
        if name == _DESCRIPTION and self._property is None:  # else it is of an ingredient
            for attribute, value in attributes.items():
                if attribute in _NAMES:
                    self._said.append((_NAMES[attribute], value))
        elif self._open and self._open[-1] == _DESCRIPTION and self._property is None:
            self._property = name
            self._items = 0
            self._text = [attributes.get(_RESOURCE, "")]
        if name == _ITEM:
            self._items += 1
        self._open.append(name)

    def _resolved(self, prefixed: str) -> str:
        """The name with the address of its namespace, if that is one of those that are read."""
        prefix, _, local = prefixed.rpartition(":")
        for declared in reversed(self._declared):
            if prefix in declared:
                space = declared[prefix]
                return f"{space} {local}" if space in _SPACES else prefixed
        if prefix not in ("", "xml"):
            raise _Refused
        return prefixed

    def _end(self, _: str) -> None:
        name = self._open.pop()
        self._declared.pop()
        if name == self._property and self._open[-1:] == [_DESCRIPTION]:
            if name in _NAMES:
                self._said.append((_NAMES[name], "".join(self._text).strip()))
            self._property = None

    def _characters(self, text: str) -> None:
        # Of several languages the first is the default one.
        if self._property in _NAMES and self._items <= 1:
            self._text.append(text)


def _refuse(*_: object) -> None:
    raise _Refused
