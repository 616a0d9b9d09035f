"""Query parameters that filter by generation metadata, for the search and the media library."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stillroom.errors import InvalidParameter
from stillroom.http.parameters import Parameter, Place, choice, optional, or_null

MAX_SEARCH_TEXT: Final = 1000
"""Maximum number of characters in one parameter."""

MAX_SEED: Final = 2**64 - 1

_DIGITS = re.compile(r"[0-9]{1,20}", re.ASCII)


def _text(text: str, at: Place) -> str:
    if len(text) > MAX_SEARCH_TEXT:
        raise InvalidParameter(f"must have at most {MAX_SEARCH_TEXT} characters", at=at)
    return text


def _seed(text: str, at: Place) -> int:
    if not _DIGITS.fullmatch(text) or int(text) > MAX_SEED:
        raise InvalidParameter("must be a whole number, 0 to 2**64 - 1", at=at)
    return int(text)


_TEXT: Final = or_null(type="string", maxLength=MAX_SEARCH_TEXT)


def _text_parameter(name: str, description: str) -> Parameter[str]:
    return Parameter(name, _text, "", _TEXT, description)


_Q: Final = _text_parameter(
    "q",
    "Words and filters, as in docs/search.md: `fox -cat model:sdxl`. All must hold.",
)
_PROMPT: Final = _text_parameter("prompt", "Words in the prompt.")
_MODEL: Final = _text_parameter("model", "Consecutive words in the name of the model.")
_LORA: Final = _text_parameter("lora", "Consecutive words in the name of a LoRA.")
_SAMPLER: Final = _text_parameter("sampler", "Complete name of the sampler, ignoring case.")
_TOOL: Final = _text_parameter("tool", "Complete name of the tool, ignoring case.")
_SEED: Final = optional(
    "seed", _seed, "Up to 2**64 - 1.", type="integer", minimum=0, maximum=MAX_SEED
)
_AI_MARK: Final[Parameter[str | None]] = choice(
    "ai_mark",
    "c2pa",
    "iptc",
    "both",
    "none",
    absent=None,
    description="AI mark of the image.",
)

FACTS_QUERY: Final = (_Q, _PROMPT, _MODEL, _LORA, _SAMPLER, _SEED, _TOOL, _AI_MARK)
"""Query parameters that filter images by their generation metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsParameters:
    """Filters by generation metadata. Empty strings and None do not filter."""

    q: str = ""
    prompt: str = ""
    model: str = ""
    lora: str = ""
    sampler: str = ""
    tool: str = ""
    seed: int | None = None
    ai_mark: str | None = None


def read_facts(given: Mapping[str, str]) -> FactsParameters:
    """Parse the parameters of `FACTS_QUERY` from a decoded query.

    Raises:
        InvalidParameter: a parameter is invalid.
    """
    return FactsParameters(
        q=_Q.read(given),
        prompt=_PROMPT.read(given),
        model=_MODEL.read(given),
        lora=_LORA.read(given),
        sampler=_SAMPLER.read(given),
        tool=_TOOL.read(given),
        seed=_SEED.read(given),
        ai_mark=_AI_MARK.read(given),
    )
