"""Query parameters that filter by generation parameters, for the search and the media library."""

from dataclasses import field, make_dataclass
from typing import Annotated, Final

from stillroom.generation.facets import FACETS, Facet
from stillroom.generation.facts import MAX_SEED
from stillroom.store.http.parameters import Parameter, or_null, repeatable

MAX_SEARCH_TEXT: Final = 1000  # characters in the value of one query parameter


def _parameter(facet: Facet) -> Parameter:
    def parse(text: str) -> str:
        value = facet.check(text)
        if len(value) > MAX_SEARCH_TEXT:
            raise ValueError(f"must have at most {MAX_SEARCH_TEXT} characters")
        return value

    schema: dict[str, object] = {"type": "string", "maxLength": MAX_SEARCH_TEXT}
    if facet.choices:
        schema = {"type": "string", "enum": list(facet.choices)}
    elif facet.matches == "number":
        schema = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
    return Parameter(parse, or_null(**schema), facet.description)


_Q: Final = Facet(
    "q",
    "words",
    "Words and filters, as in docs/search.md: `fox -cat model:sdxl`. All must hold.",
    help="",
)
_FIELDS: Final = [
    (facet.name, Annotated[str, _parameter(facet)], field(default=""))
    for facet in (_Q, *FACETS.values())
]


class FactsParameters(make_dataclass("_Facts", _FIELDS, frozen=True)):  # type: ignore[misc]
    """Query parameters `q`, `model`, `prompt` and so on. An empty value matches all images."""


Tags = Annotated[
    tuple[str, ...],
    repeatable(
        "tag",
        "Only resources with this tag; `-cat` excludes the tag `cat`. Repeated ones must all "
        "match.",
    ),
]
