"""Parser and writer for the XML documents of S3. Namespaces are ignored.

Document type declarations are refused, because their entities can make a small document large.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET
from xml.parsers import expat
from xml.sax.saxutils import escape

from stillroom.store.objectstore import ListedPage, ListedUpload, UploadsPage

_MAX_DEPTH: Final = 16


class BrokenXml(Exception):
    """Error for XML that is malformed or lacks the structure of an S3 response."""


def parse(document: bytes) -> ET.Element:
    """Return the root element of a document, or raise `BrokenXml`."""
    builder = ET.TreeBuilder()
    open_names: list[str] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        if len(open_names) == _MAX_DEPTH:
            raise BrokenXml("the document is nested too deeply")
        open_names.append(name)
        builder.start(name.rpartition(":")[2], attributes)

    def end(_name: str) -> None:
        builder.end(open_names.pop())

    def refuse(*_: object) -> None:
        raise BrokenXml("the document has a document type declaration")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # unknown encoding
        raise BrokenXml(str(error)) from error
    return builder.close()


def error_field(document: bytes, name: str = "Code") -> str:
    """Return one field of an error document, or an empty string if there is none."""
    if not document:
        return ""
    try:
        root = parse(document)
    except BrokenXml:
        return ""  # perhaps a page from a proxy
    return root.findtext(name, "") if root.tag == "Error" else ""


def parse_listing(document: bytes, *, order: Callable[[str], str]) -> ListedPage:
    """Parse a response to ListObjectsV2. Keys and folders are merged by the sort key `order`."""
    root = _parse_as("ListBucketResult", document)
    decode = _decode_key if root.findtext("EncodingType") == "url" else str
    entries: list[str | None] = []
    modified_ns = {}
    for node in root.findall("Contents"):
        key = decode(node.findtext("Key", ""))
        entries.append(None if key is None or key.endswith("/") else key)
        moment = _nanoseconds(node.findtext("LastModified", ""))
        if key is not None and moment is not None:
            modified_ns[key] = moment
    folders = [decode(node.findtext("Prefix", "")) for node in root.findall("CommonPrefixes")]
    if folders:
        entries = sorted(entries + folders, key=lambda entry: order(entry or ""))
    next_token = None
    if root.findtext("IsTruncated") == "true":
        next_token = root.findtext("NextContinuationToken")
        if not next_token:
            raise BrokenXml("a truncated page has no NextContinuationToken")
    return ListedPage(entries, next_token, modified_ns)


def _nanoseconds(text: str) -> int | None:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000) * 10**6
    except (ValueError, OverflowError):
        return None


def parse_uploads(document: bytes) -> UploadsPage:
    """Parse the response to ListMultipartUploads, or raise `BrokenXml`."""
    root = _parse_as("ListMultipartUploadsResult", document)
    uploads = [
        ListedUpload(*[node.findtext(name, "") for name in ("Key", "UploadId", "Initiated")])
        for node in root.findall("Upload")
    ]
    next_markers = None
    if root.findtext("IsTruncated") == "true":
        if not uploads:
            raise BrokenXml("IsTruncated is true, but the page has no entries")
        # SeaweedFS omits NextKeyMarker.
        key = root.findtext("NextKeyMarker") or uploads[-1].key
        next_markers = (key, root.findtext("NextUploadIdMarker") or uploads[-1].upload_id)
    return UploadsPage(uploads, next_markers)


def _parse_as(name: str, document: bytes) -> ET.Element:
    root = parse(document)
    if root.tag != name:
        raise BrokenXml(f"the response is <{root.tag}> instead of <{name}>")
    return root


def completion_body(etags: Sequence[str]) -> bytes:
    """Return the request body of CompleteMultipartUpload with all parts, numbered from 1."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, start=1)
    )
    return (
        '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{parts}</CompleteMultipartUpload>"
    ).encode()


def _decode_key(name: str) -> str | None:
    """Decode a URL-encoded key (a space is `+`). Return None if it is not valid UTF-8."""
    try:
        return unquote_to_bytes(name.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        return None
