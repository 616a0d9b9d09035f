"""Table of the search filters on generation parameters ("facets").

The query `q`, the search index, the HTTP API and the command line use the names in this table.
`FactsFilters` declares the same names with their types for the SDK.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypedDict, get_args

from stillroom.generation.facts import MAX_SEED, clean_text
from stillroom.generation.origins import canonical
from stillroom.wire.generation import AiMark

if TYPE_CHECKING:  # the parsers take long to import
    from stillroom.generation.reading import Found

_DIGITS: Final = re.compile(r"[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Facet:
    """Search filter on one generation parameter of images.

    `matches` is the kind of comparison: `words` (words and phrases), `name` (consecutive words of a
    name), `exact` (the complete text, ignoring case), `number` or `origin` (a path or a SHA-256).
    """

    name: str  # a field of `Generation`, except for `lora` and `ai_mark`
    matches: Literal["words", "name", "exact", "number", "origin"]
    description: str  # for the HTTP API
    help: str = ""  # for the command line, if it differs from `description`
    letter: str = ""  # prefix of names in the search index; must not change or be hexadecimal
    choices: tuple[str, ...] = ()  # all valid values; empty if any value is valid

    @property
    def is_exact(self) -> bool:
        """True if the filter compares complete values instead of words."""
        return self.matches in ("exact", "number", "origin")

    def check(self, text: str) -> str:
        """Return a filter value in normalized form. Raises ValueError if it is invalid."""
        if self.choices and text not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        if self.matches != "number":
            return canonical(clean_text(text)) if self.matches == "origin" else text
        if not (_DIGITS.fullmatch(text) and int(text) <= MAX_SEED):
            raise ValueError(f"must be a whole number from 0 to {MAX_SEED}")
        return str(int(text))

    def values(self, found: "Found") -> Sequence[str]:
        """Return the values of an image with which this filter's value is compared."""
        facts = found.generation
        if self.name == "lora":
            return [lora.name for lora in (facts and facts.loras) or ()]
        if self.matches == "origin":
            return (facts and facts.derived_from) or ()
        value = getattr(found if self.name == "ai_mark" else facts, self.name, None)
        return [] if value is None else [str(value)]


FACETS: Final[Mapping[str, Facet]] = {
    facet.name: facet
    for facet in (
        Facet("prompt", "words", "Words in the prompt."),
        Facet("model", "name", "Consecutive words in the name of the model.", letter="m"),
        Facet("lora", "name", "Consecutive words in the name of a LoRA.", letter="l"),
        Facet(
            "sampler", "exact", "Complete name of the sampler, ignoring case.",
            "Complete name of the sampler.",
        ),
        Facet("seed", "number", "Up to 2**64 - 1.", "The seed."),
        Facet(
            "tool", "exact", "Complete name of the tool, ignoring case.",
            "Complete name of the tool, such as ComfyUI.",
        ),
        Facet("ai_mark", "exact", "AI mark of the image.", choices=get_args(AiMark)),
        Facet("derived_from", "origin", "Path or SHA-256 of an image from which it was made."),
    )
}  # fmt: skip
"""Search filters by name, in the order of the documentation."""


class FactsFilters(TypedDict, total=False):
    """Filters on generation parameters; see docs/search.md.

    Attributes:
        prompt: Words in the prompt. Words in double quotes form a phrase.
        model: Consecutive words in the name of the model.
        lora: Consecutive words in the name of a LoRA.
        sampler: Complete name of the sampler, in upper or lower case.
        seed: Seed from 0 to 2**64 - 1.
        tool: Complete name of the tool, in upper or lower case.
        ai_mark: AI mark; `none` matches images without a mark.
        derived_from: Path or SHA-256 of an image from which the image was made.
    """

    prompt: str
    model: str
    lora: str
    sampler: str
    seed: int
    tool: str
    ai_mark: AiMark
    derived_from: str
