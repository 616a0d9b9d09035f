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

    Generation parameters come first, so that replacing them with equal ones does not change the
    packet.
    """
    packet = _BEFORE + _BEHIND if packet is None else packet
    opening, end = _OPENING.search(packet), packet.rfind(_CLOSING)
    if opening is None or end < opening.end():
        raise UnsupportedMedia(
            "cannot add the AI mark: the image's XMP metadata has an unusual structure"
        )
    about = _ABOUT.search(packet)
    ours = (
        b'<rdf:Description rdf:about=%s xmlns:Iptc4xmpExt="%s"><Iptc4xmpExt:DigitalSourceType>'
        b"%s</Iptc4xmpExt:DigitalSourceType></rdf:Description>"
        % (about[1] if about else b'""', IPTC_EXTENSION.encode(), TRAINED.encode())
    )
    return packet[:end] + ours + packet[end:]


def with_facts(packet: bytes | None, facts: bytes) -> bytes:
    """Return an XMP packet with generation parameters (JSON). A missing packet is created."""
    packet = _BEFORE + _BEHIND if packet is None else _OURS.sub(b"", packet)
    opening = _OPENING.search(packet)
    if opening is None:
        raise UnsupportedMedia(
            "cannot add metadata: the image's XMP metadata has an unusual structure"
        )
    about = _ABOUT.search(packet)
    escaped = escape(facts.decode("ascii")).encode("ascii")
    ours = b'<rdf:Description rdf:about=%s xmlns:stillroom="%s">%s%s%s</rdf:Description>' % (
        about[1] if about else b'""',
        NAMESPACE.encode(),
        b"<stillroom:generation>",
        escaped,
        b"</stillroom:generation>",
    )
    return packet[: opening.end()] + ours + packet[opening.end() :]
