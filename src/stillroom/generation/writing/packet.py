"""Functions that insert generation parameters or the AI mark into an XMP packet.

Text is inserted without rewriting the packet, so that its other content is unchanged. The functions
raise `UnsupportedMedia` if the structure of the packet does not allow that.
"""

import re
from typing import Final
from xml.sax.saxutils import escape

from stillroom.errors import UnsupportedMedia
from stillroom.generation.carriers.xmp import IPTC_EXTENSION, NAMESPACE, RDF, TRAINED

_OPENING: Final = re.compile(rb"<rdf:RDF\b[^<>]*(?<!/)>")
_ABOUT: Final = re.compile(rb"rdf:about=(\"[^\"<>]{0,1024}\"|'[^'<>]{0,1024}')")
_OURS: Final = re.compile(
    rb"<rdf:Description rdf:about=[^<>]{0,1100} xmlns:stillroom=\""
    + re.escape(NAMESPACE.encode())
    + rb"\"><stillroom:generation>[^<]*</stillroom:generation></rdf:Description>"
)
_BEFORE: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
).encode()
_CLOSING: Final = b"</rdf:RDF>"
_BEHIND: Final = b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'


def with_mark(packet: bytes | None) -> bytes:
    """Return an XMP packet with the AI mark as its last property. If `packet` is None, create one.

    The mark follows the generation parameters, so that embedding the same parameters again does
    not change the packet.
    """
    packet = _BEFORE + _BEHIND if packet is None else packet
    name, place = b"Iptc4xmpExt:DigitalSourceType", packet.rfind(_CLOSING)
    return _insert(packet, place, name, IPTC_EXTENSION, TRAINED, failure="cannot add the AI mark")


def with_facts(packet: bytes | None, facts: bytes) -> bytes:
    """Return an XMP packet with generation parameters (JSON). A missing packet is created."""
    packet = _BEFORE + _BEHIND if packet is None else _OURS.sub(b"", packet)
    name, text = b"stillroom:generation", escape(facts.decode("ascii"))
    return _insert(packet, None, name, NAMESPACE, text, failure="cannot add metadata")


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
