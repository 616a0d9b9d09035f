"""Requests whose end two parsers may see in different places, and one that hides behind it.

Each is a whole request as far as some parser is concerned; `smuggled` stands where another one
would begin the next. Sources: RFC 9112, 11.2; https://portswigger.net/web-security/request-smuggling;
for line ends in chunks https://w4ke.info/2025/06/18/funky-chunks.html.
"""

import re
from dataclasses import dataclass

from running import IMAGES

_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d) ")

TARGET = f"{IMAGES}/attack.png".encode()


@dataclass(frozen=True)
class Attack:
    """One of them.

    Attributes:
        fields: Of its head, in addition to Host, a token and the type of a form; each with its
            line end. `LENGTH` becomes the length of the whole body.
        body: `SMUGGLED` becomes the request that hides in it, `SIZE` its length in hexadecimal.
        is_whole: Whether a server may take it for one right request instead of refusing it.
    """

    fields: bytes
    body: bytes = b"SMUGGLED"
    method: bytes = b"POST"
    target: bytes = TARGET
    version: bytes = b"HTTP/1.1"
    host: bytes = b"Host: a\r\n"
    is_whole: bool = False

    def request(self, token: str, smuggled: bytes, *, keep: bool = False) -> bytes:
        body = self.body.replace(b"SMUGGLED", smuggled).replace(b"SIZE", b"%x" % len(smuggled))
        return (
            self.method + b" " + self.target + b" " + self.version + b"\r\n" + self.host
            + b"Authorization: Bearer " + token.encode() + b"\r\n"
            + (b"" if keep else b"Connection: close\r\n")
            + b"Content-Type: multipart/form-data; boundary=B\r\n"
            + self.fields.replace(b"LENGTH", b"%d" % len(body))
            + b"\r\n" + body
        )  # fmt: skip


def statuses(answers: bytes) -> list[int]:
    """Of all answers on a connection, in order; `100 Continue` is none."""
    return [int(status) for status in _STATUS.findall(answers)]


def hidden(path: str, token: str) -> bytes:
    return (
        f"DELETE {IMAGES}/{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: LENGTH\r\n"
LAST = b"0\r\n\r\nSMUGGLED"

ATTACKS = {
    # The length is declared twice
    "length and chunked": Attack(LENGTH + CHUNKED, LAST),
    "chunked and length": Attack(CHUNKED + LENGTH, LAST),
    "chunked and a short length": Attack(CHUNKED + b"Content-Length: 4\r\n", b"SIZE\r\n" + LAST),
    "two lengths": Attack(b"Content-Length: 0\r\n" + LENGTH),
    "two lengths, the other way": Attack(LENGTH + b"Content-Length: 0\r\n"),
    "two equal lengths": Attack(LENGTH + LENGTH),
    "two codings": Attack(CHUNKED + b"Transfer-Encoding: identity\r\n", LAST),
    "chunked twice": Attack(CHUNKED + CHUNKED, LAST),
    # Numbers that are none
    "length +5": Attack(b"Content-Length: +5\r\n", b"xxxxxSMUGGLED"),
    "length -5": Attack(b"Content-Length: -5\r\n", b"xxxxxSMUGGLED"),
    "length 0x5": Attack(b"Content-Length: 0x5\r\n", b"xxxxxSMUGGLED"),
    "length 5,5": Attack(b"Content-Length: 5,5\r\n", b"xxxxxSMUGGLED"),
    "length 5 5": Attack(b"Content-Length: 5 5\r\n", b"xxxxxSMUGGLED"),
    "length 5;": Attack(b"Content-Length: 5;\r\n", b"xxxxxSMUGGLED"),
    "length 5.0": Attack(b"Content-Length: 5.0\r\n", b"xxxxxSMUGGLED"),
    "length 5_0": Attack(b"Content-Length: 5_0\r\n", b"xxxxxSMUGGLED"),
    "length of nothing": Attack(b"Content-Length:\r\n", b"SMUGGLED"),
    "length behind blanks": Attack(b"Content-Length: \t  5  \r\n", b"xxxxx", is_whole=True),
    "length of 20 digits": Attack(b"Content-Length: 18446744073709551621\r\n", b"xxxxxSMUGGLED"),
    "length of 40 zeros": Attack(b"Content-Length: " + b"0" * 40 + b"\r\n", b"", is_whole=True),
    "length behind zeros": Attack(b"Content-Length: 0005\r\n", b"xxxxx", is_whole=True),
    "length in other digits": Attack("Content-Length: ５\r\n".encode(), b"xxxxxSMUGGLED"),
    # Other spellings of fields
    "blank before a colon": Attack(b"Transfer-Encoding : chunked\r\n" + LENGTH, LAST),
    "blank before a name": Attack(b" Transfer-Encoding: chunked\r\n" + LENGTH, LAST),
    "tab before the value": Attack(b"Transfer-Encoding:\tchunked\r\n" + LENGTH, LAST),
    "vertical tab before the value": Attack(b"Transfer-Encoding:\x0bchunked\r\n" + LENGTH, LAST),
    "xchunked": Attack(b"Transfer-Encoding: xchunked\r\n", LAST),
    "chunked, identity": Attack(b"Transfer-Encoding: chunked, identity\r\n", LAST),
    "gzip, chunked": Attack(b"Transfer-Encoding: gzip, chunked\r\n", LAST),
    "a quoted coding": Attack(b'Transfer-Encoding: "chunked"\r\n' + LENGTH, LAST),
    "a coding of nothing": Attack(b"Transfer-Encoding:\r\n" + LENGTH, LAST),
    "CHUNKED": Attack(b"TRANSFER-ENCODING: CHUNKED\r\n", b"0\r\n\r\n", is_whole=True),
    "a name with an underscore": Attack(b"Transfer_Encoding: chunked\r\n" + LENGTH, is_whole=True),
    "a field without a colon": Attack(b"Transfer-Encoding chunked\r\n" + LENGTH, LAST),
    "a NUL in a field": Attack(b"X: \x00\r\n" + LENGTH),
    # Line ends
    "bare LF behind a field": Attack(b"X: y\n" + CHUNKED, LAST),
    "bare LF hides a field": Attack(b"X: y\nTransfer-Encoding: chunked\r\n" + LENGTH, LAST),
    "bare CR hides a field": Attack(b"X: y\rTransfer-Encoding: chunked\r\n" + LENGTH, LAST),
    "bare LF ends the head": Attack(b"Content-Length: 0\r\n\nSMUGGLED", b""),
    "obs-fold": Attack(b"X: y\r\n Transfer-Encoding: chunked\r\n" + LENGTH, LAST),
    "obs-fold in a coding": Attack(b"Transfer-Encoding:\r\n chunked\r\n" + LENGTH, LAST),
    "obs-fold in a length": Attack(b"Content-Length: 5\r\n 0\r\n", b"xxxxxSMUGGLED"),
    # Chunks
    "chunk +SIZE": Attack(CHUNKED, b"+SIZE\r\nSMUGGLED\r\n0\r\n\r\n"),
    "chunk -1": Attack(CHUNKED, b"-1\r\nSMUGGLED\r\n0\r\n\r\n"),
    "chunk 0xSIZE": Attack(CHUNKED, b"0xSIZE\r\nSMUGGLED\r\n0\r\n\r\n"),
    "chunk of a blank": Attack(CHUNKED, b" SIZE\r\nSMUGGLED\r\n0\r\n\r\n"),
    "chunk of nothing": Attack(CHUNKED, b"\r\nSMUGGLED\r\n0\r\n\r\n"),
    "chunk of 17 digits": Attack(CHUNKED, b"10000000000000000\r\nSMUGGLED\r\n0\r\n\r\n"),
    "chunk with an underscore": Attack(CHUNKED, b"0_SIZE\r\nSMUGGLED\r\n0\r\n\r\n"),
    "chunk with bare LF": Attack(CHUNKED, b"SIZE\nSMUGGLED\r\n0\r\n\r\n"),
    "chunk with a bare CR": Attack(CHUNKED, b"SIZE\rSMUGGLED\r\n0\r\n\r\n"),
    "chunk that does not end": Attack(CHUNKED, b"1\r\nx0\r\n\r\nSMUGGLED"),
    "chunk that ends in LF": Attack(CHUNKED, b"1\r\nx\n0\r\n\r\nSMUGGLED"),
    "chunk that ends in other bytes": Attack(CHUNKED, b"1\r\nxXX0\r\n\r\nSMUGGLED"),
    "extension with bare LF": Attack(CHUNKED, b"1;a\nx\r\n0\r\n\r\nSMUGGLED"),
    "extension with a bare CR": Attack(CHUNKED, b"0;a\r\r\n\r\nSMUGGLED"),
    "last chunk with bare LFs": Attack(CHUNKED, b"0\n\nSMUGGLED"),
    "trailer that is a length": Attack(CHUNKED, b"0\r\nContent-Length: 500\r\n\r\n", is_whole=True),
    "trailer with bare LF": Attack(CHUNKED, b"0\r\nX: y\n\nSMUGGLED"),
    # Targets and hosts
    "two hosts": Attack(LENGTH, host=b"Host: a\r\nHost: b\r\n"),
    "two equal hosts": Attack(LENGTH, host=b"Host: a\r\nHost: a\r\n"),
    "no host": Attack(LENGTH, host=b""),
    "a folded host": Attack(LENGTH, host=b"Host: a\r\n b\r\n"),
    "absolute target": Attack(LENGTH, target=b"http://b.example" + TARGET, is_whole=True),
    "absolute target of another scheme": Attack(LENGTH, target=b"ftp://b.example" + TARGET),
    "target with a user": Attack(LENGTH, target=b"http://u@a" + TARGET, is_whole=True),
    "authority target": Attack(LENGTH, target=b"a:80"),
    "asterisk target": Attack(LENGTH, target=b"*"),
    "target with a blank": Attack(LENGTH, target=TARGET + b" HTTP/1.1 x"),
    "target with a tab": Attack(LENGTH, target=TARGET + b"\tx"),
    # Bodies where none is expected
    "GET with a body": Attack(LENGTH, method=b"GET", is_whole=True),
    "GET with chunks": Attack(
        CHUNKED, b"SIZE\r\nSMUGGLED\r\n0\r\n\r\n", method=b"GET", is_whole=True
    ),
    "HEAD with a body": Attack(LENGTH, method=b"HEAD", is_whole=True),
    "DELETE with a body": Attack(LENGTH, method=b"DELETE", is_whole=True),
    "a refused upload": Attack(LENGTH, target=TARGET + b"%00", is_whole=True),
    # Versions, offers and expectations
    "HTTP/1.0 with chunks": Attack(CHUNKED, LAST, version=b"HTTP/1.0"),
    "HTTP/1.2": Attack(LENGTH, version=b"HTTP/1.2"),
    "HTTP/2.0": Attack(LENGTH, version=b"HTTP/2.0"),
    "HTTP/0.9": Attack(b"", method=b"GET", version=b"HTTP/0.9"),
    "http/1.1": Attack(LENGTH, version=b"http/1.1"),
    "HTTP/1.10": Attack(LENGTH, version=b"HTTP/1.10"),
    "an upgrade with a body": Attack(b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + LENGTH),
    "an odd expectation": Attack(LENGTH + b"Expect: 200-ok\r\n", is_whole=True),
    "two expectations": Attack(LENGTH + b"Expect: 100-continue\r\nExpect: x\r\n", is_whole=True),
    "CONNECT": Attack(b"", method=b"CONNECT", target=b"a:80"),
    "a method in small letters": Attack(LENGTH, method=b"post"),
}
