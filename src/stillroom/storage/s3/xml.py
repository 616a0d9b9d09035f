"""Parser and writer for the few XML documents that S3 uses.

Documents are parsed with expat, ignoring namespaces. Document type declarations are refused: their
entities can make a small document large, and no bucket sends any.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_to_bytes
from xml.parsers import expat
from xml.sax.saxutils import escape

from stillroom.storage.objectstore import ListedPage, ListedUpload, UploadsPage

_MAX_DEPTH: Final = 16


class BrokenXml(Exception):
    """Error for a malformed document, or one that S3 does not send."""


@dataclass(slots=True)
class Node:
    """An XML element with its name, its own text, and its child elements."""

    name: str
    text: str = ""
    children: "list[Node]" = field(default_factory=list)

    def find(self, name: str) -> str | None:
        """Return the text of the first child with this name, or None."""
        return next((node.text for node in self.children if node.name == name), None)

    def all(self, name: str) -> "Iterator[Node]":
        """Return all children with this name."""
        return (node for node in self.children if node.name == name)


def parse(document: bytes) -> Node:
    """Return the root element of a document.

    Raises:
        BrokenXml: the document is malformed, nested too deep, or has a document type.
    """
    top = Node("")
    open_nodes = [top]

    def begin(name: str, _attributes: Any) -> None:  # noqa: ANN401  (expat's signature)
        if len(open_nodes) > _MAX_DEPTH:
            raise BrokenXml("the document is nested too deeply")
        node = Node(name.rpartition(":")[2])
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(_name: str) -> None:
        open_nodes.pop()

    def text(piece: str) -> None:
        open_nodes[-1].text += piece

    def refuse(*_: object) -> None:
        raise BrokenXml("the document has a document type declaration")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # unknown encoding
        raise BrokenXml(str(error)) from error
    return top.children[0]


def error_code(document: bytes) -> str:
    """Return the code in an error document, or an empty string if there is none."""
    return error_field(document, "Code")


def error_field(document: bytes, name: str) -> str:
    """Return one field of an error document, or an empty string if there is none."""
    if not document:
        return ""
    try:
        root = parse(document)
    except BrokenXml:
        return ""  # perhaps a page from a proxy
    return (root.find(name) or "") if root.name == "Error" else ""


def parse_listing(document: bytes, *, order: Callable[[str | None], str]) -> ListedPage:
    """Parse the response to ListObjectsV2.

    Args:
        document: Body of the response.
        order: Sort key for the bucket's order. The document lists folders after all keys.

    Raises:
        BrokenXml: the document is not a listing, or is a truncated page without a continuation
            token.
    """
    root = parse(document)
    if root.name != "ListBucketResult":
        raise BrokenXml(f"the response is <{root.name}> instead of <ListBucketResult>")
    encoded = root.find("EncodingType") == "url"
    decode = _decode_key if encoded else str
    contents = [*root.all("Contents")]
    keys = [decode(node.find("Key") or "") for node in contents]
    modified_ns = {}
    for key, node in zip(keys, contents, strict=True):
        moment = _nanoseconds(node.find("LastModified") or "")
        if key is not None and moment is not None:
            modified_ns[key] = moment
    folders = [decode(node.find("Prefix") or "") for node in root.all("CommonPrefixes")]
    entries = [None if key is None or key.endswith("/") else key for key in keys] + folders
    if folders:
        entries.sort(key=order)
    next_token = None
    if root.find("IsTruncated") == "true":
        next_token = root.find("NextContinuationToken")
        if not next_token:
            raise BrokenXml("a truncated page has no NextContinuationToken")
    return ListedPage(entries, next_token, modified_ns)


def _nanoseconds(text: str) -> int | None:
    """Parse an ISO 8601 time to nanoseconds since the epoch. Return None if it is malformed."""
    try:
        moment = datetime.fromisoformat(text)
        return int(moment.timestamp() * 1000) * 10**6
    except (ValueError, OverflowError):
        return None


def parse_uploads(document: bytes) -> UploadsPage:
    """Parse the response to ListMultipartUploads (without `encoding-type`).

    SeaweedFS claims to encode keys but does not. XML can represent all image keys anyway.

    Raises:
        BrokenXml: the document is not a list of uploads, or is a truncated page without entries.
    """
    root = parse(document)
    if root.name != "ListMultipartUploadsResult":
        raise BrokenXml(f"the response is <{root.name}> instead of <ListMultipartUploadsResult>")
    uploads = [
        ListedUpload(
            node.find("Key") or "", node.find("UploadId") or "", node.find("Initiated") or ""
        )
        for node in root.all("Upload")
    ]
    next_markers = None
    if root.find("IsTruncated") == "true":
        if not uploads:
            raise BrokenXml("a truncated page is empty")
        # SeaweedFS omits NextKeyMarker.
        key = root.find("NextKeyMarker") or uploads[-1].key
        next_markers = (key, root.find("NextUploadIdMarker") or uploads[-1].upload_id)
    return UploadsPage(uploads, next_markers)


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
