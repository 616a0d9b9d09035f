"""Leaving comments and needless spaces out of scripts, styles and markup before they are served.

This is no parser: it relies on the house style of `static/`, which eslint.config.js holds it to
(texts in double quotes or templates, none over several lines, no template within another).
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
"""What of a line of JavaScript goes, and what must not be touched; no text goes over lines."""

_STYLE: Final = re.compile(rb"(?<=[:,;{]) | (?=[{}])")


def minified(name: str, content: bytes) -> bytes:
    """A file without its comments, indentation and the spaces that a browser does not need.

    Lines stay, so JavaScript's rules for missing semicolons never come into play.
    """
    content = _COMMENT.sub(b"", content)
    if name.endswith(".js"):
        content = _SCRIPT.sub(lambda found: found[1] or found[2] or b"", content)
    elif name.endswith(".css"):
        content = _STYLE.sub(b"", content)
    lines = [line.strip() for line in content.splitlines()]
    return b"\n".join([line for line in lines if line]) + b"\n"
