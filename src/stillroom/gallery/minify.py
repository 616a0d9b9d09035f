"""Removal of comments and unnecessary whitespace from JavaScript, CSS and HTML files.

This is not a parser. It relies on the code style of `static/`, which eslint.config.js enforces:
strings are on one line, in double quotes or templates, and templates are not nested.
"""

import re
from typing import Final

_COMMENT: Final = re.compile(rb"^[ ]*(?:/\*.*?\*/|//[^\n]*)$", re.DOTALL | re.MULTILINE)

_SCRIPT: Final = re.compile(
    rb"""
    ( "(?:\\.|[^"\\])*" | `(?:\\.|[^`\\])*`                     # texts stay as they are,
    | (?:(?<=[(=,])|(?<=[=,:?]\ ))/(?![*/])(?:\\.|\[[^\]]*\]|[^/\\\n])+/ ) # and patterns
    | /\*\*.*?\*/\ ? | \ ?//[^\n]*                              # types, and comments after code
    | \ ?([{}(),;:?]|=>|[!=]==|[<>]=?|&&|\|\||[-+*]?=)(?:\ (?!//))?   # spaces around punctuation
    """,
    re.VERBOSE,
)
"""Parts of a line of JavaScript: groups 1 and 2 are kept, other matches are removed."""

_STYLE: Final = re.compile(rb"(?<=[:,;{]) | (?=[{}])")


def minified(name: str, content: bytes) -> bytes:
    """Return the content of a file without comments, indentation and unnecessary spaces.

    Line breaks between statements are kept, because JavaScript may need them as semicolons.
    """
    content = _COMMENT.sub(b"", content)
    if name.endswith(".js"):
        content = _SCRIPT.sub(lambda found: found[1] or found[2] or b"", content)
    elif name.endswith(".css"):
        content = _STYLE.sub(b"", content)
    lines = [line.strip() for line in content.splitlines()]
    return b"\n".join([line for line in lines if line]) + b"\n"
