"""Search facets: the filters on generation metadata, with one name each everywhere.

The parser of `q`, the search index, the HTTP API with its documentation, and the command line read
this table. A new facet also needs a field of `FactsFilters` in the SDK.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from stillroom.generation.ai_mark import AiMark
from stillroom.generation.facts import MAX_SEED, Generation

_DIGITS: Final = re.compile(r"[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Facet:
    """Search filter on one field of the generation metadata.

    Attributes:
        name: Name of the filter, and of the field unless `values` says otherwise.
        matches: Matched part of the field: words and phrases, consecutive words of a name, the
            exact text in any case, or the number.
        description: Description in the HTTP API.
        help: Description on the command line.
        letter: First letter of the index words of a name. No hexadecimal digit, and never changed.
        choices: All valid values, or empty.
    """

    name: str
    matches: Literal["words", "name", "exact", "number"]
    description: str
    help: str
    letter: str = ""
    choices: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Return whether the filter matches a whole value."""
        return self.matches in ("exact", "number")

    def check(self, text: str) -> str:
        """Return a valid value in the form that the index contains.

        Raises:
            ValueError: the value is invalid.
        """
        if self.choices and text not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        if self.matches != "number":
            return text
        if not (_DIGITS.fullmatch(text) and int(text) <= MAX_SEED):
            raise ValueError(f"must be a whole number from 0 to {MAX_SEED}")
        return str(int(text))

    def values(self, facts: Generation, ai_mark: AiMark | None) -> Sequence[str]:
        """Return the values that an image has."""
        if self.name == "lora":
            return [lora.name for lora in facts.loras or ()]
        value = ai_mark if self.name == "ai_mark" else getattr(facts, self.name)
        return [] if value is None else [str(value)]


FACETS: Final[Mapping[str, Facet]] = {
    facet.name: facet
    for facet in (
        Facet("prompt", "words", "Words in the prompt.", "Words in the prompt."),
        Facet(
            "model",
            "name",
            "Consecutive words in the name of the model.",
            "Consecutive words in the name of the model.",
            letter="m",
        ),
        Facet(
            "lora",
            "name",
            "Consecutive words in the name of a LoRA.",
            "Consecutive words in the name of a LoRA.",
            letter="l",
        ),
        Facet(
            "sampler",
            "exact",
            "Complete name of the sampler, ignoring case.",
            "Complete name of the sampler.",
        ),
        Facet("seed", "number", "Up to 2**64 - 1.", "The seed."),
        Facet(
            "tool",
            "exact",
            "Complete name of the tool, ignoring case.",
            "Complete name of the tool, such as ComfyUI.",
        ),
        Facet(
            "ai_mark",
            "exact",
            "AI mark of the image.",
            "AI mark of the image.",
            choices=get_args(AiMark),
        ),
    )
}
"""Facets by name, in the order in which the documentation and the commands list them."""
