"""Query parameters of the two operations that list images."""

from dataclasses import dataclass
from typing import Annotated, Final

from stillroom.store.http.parameters import DEFAULT_LIMIT, EVERY_PATH, Parameter, Prefix, page_size

MAX_LIMIT: Final = 10_000  # replaces a larger `limit`


def _delimited(text: str) -> bool:
    if text not in ("", "/"):
        raise ValueError("must be `/`, since no other delimiter is supported")
    return text == "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListParameters:
    """Query parameters of `GET /storage/images` and `GET /storage/entries`."""

    prefix: Prefix = EVERY_PATH
    limit: Annotated[int, page_size("Entries", MAX_LIMIT)] = DEFAULT_LIMIT
    start_after: Annotated[
        str,
        Parameter(
            str,
            {"type": "string", "default": ""},
            "Only entries after this one, which is the last entry of the previous page.",
        ),
    ] = ""
    delimited: Annotated[
        bool,
        Parameter(
            _delimited,
            {"type": "string", "pattern": "^/?$", "default": ""},
            "`/` folds deeper levels into folders.",
            name="delimiter",
        ),
    ] = False
