"""Query parameters that filter by generation metadata, for the search and the media library."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from stillroom.http.parameters import Parameter, choice, or_null

MAX_SEARCH_TEXT: Final = 1000
"""Maximum number of characters in one parameter."""

MAX_SEED: Final = 2**64 - 1

_DIGITS = re.compile(r"[0-9]{1,20}", re.ASCII)


def _parse_words(text: str) -> str:
    if len(text) > MAX_SEARCH_TEXT:
        raise ValueError(f"must have at most {MAX_SEARCH_TEXT} characters")
    return text


def _parse_seed(text: str) -> int:
    if not _DIGITS.fullmatch(text) or int(text) > MAX_SEED:
        raise ValueError("must be a whole number, 0 to 2**64 - 1")
    return int(text)


def _words(description: str) -> Parameter:
    schema = or_null(type="string", maxLength=MAX_SEARCH_TEXT)
    return Parameter(_parse_words, schema, description)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsParameters:
    """Filters by generation metadata. Empty strings and None do not filter."""

    q: Annotated[
        str,
        _words("Words and filters, as in docs/search.md: `fox -cat model:sdxl`. All must hold."),
    ] = ""
    prompt: Annotated[str, _words("The same in the prompt alone.")] = ""
    model: Annotated[str, _words("Words that follow each other in the model's name.")] = ""
    lora: Annotated[str, _words("Words that follow each other in the name of a LoRA.")] = ""
    sampler: Annotated[str, _words("The sampler's whole name, in any case.")] = ""
    seed: Annotated[
        int | None,
        Parameter(
            _parse_seed,
            {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
            "Up to 2**64 - 1.",
        ),
    ] = None
    tool: Annotated[str, _words("The tool's whole name, in any case.")] = ""
    ai_mark: Annotated[
        str | None,
        choice(
            "c2pa",
            "iptc",
            "both",
            "none",
            description="Whether an image says that AI made it: this very answer.",
        ),
    ] = None
