"""Names of variables: what a name means that nothing reads."""

from collections.abc import Collection
from difflib import SequenceMatcher
from typing import Final

from stillroom.errors import ConfigurationError

PREFIXES: Final = ("STILLROOM_", "R2_")

BUCKET: Final = ("R2_ENDPOINT_URL", "R2_ACCESS_KEY_ID")
"""One of them selects a bucket."""

_TOKENS: Final = "STILLROOM_JWT_"
"""Whose tokens are accepted: none of these is passed over, however it is spelled."""

_MISSPELLED: Final = 0.8
"""Of `difflib`'s ratio: `JWT_AUDIENC`, `DATADIR`, `ENDPOINT`; `R2_ACCOUNT_ID` is further away."""

_SIMILAR: Final = 0.6


def unread(given: Collection[str], known: Collection[str]) -> list[str]:
    """A warning for each name of ours that nothing reads, without its beginning `warning: `.

    Args:
        given: Names in upper case, ours and others'.
        known: Names that are read.

    Raises:
        ConfigurationError: one is so near to a setting that is not set that it must be meant. What
            it should have forbidden would be allowed.
    """
    said = []
    for name in sorted(filter(_is_like_ours, set(given) - set(known))):
        meant, likeness = max(
            ((one, _likeness(name, one)) for one in known), key=lambda pair: pair[1]
        )
        ours = name.startswith("STILLROOM_")
        if name.startswith(_TOKENS) or (likeness >= _MISSPELLED and meant not in given):
            hint = f"did you mean {meant}?" if likeness >= _SIMILAR else "unset it"
            raise ConfigurationError(f"{name} is set, and there is no such setting: {hint}")
        if ours or likeness >= _MISSPELLED:
            hint = f"{meant} is the nearest setting" if likeness >= _SIMILAR else "unset it"
            said.append(f"{name} is set, and nothing reads it: {hint}")
    return said


def _is_like_ours(name: str) -> bool:
    """Whether it is not another program's; the prefix can be misspelled, too."""
    return name.startswith(PREFIXES) or (
        _ratio(name.partition("_")[0], PREFIXES[0].rstrip("_")) > _MISSPELLED
    )


def _likeness(name: str, known: str) -> float:
    """From 0 to 1; of what follows the prefix that both have, else of the whole names."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return _ratio(name, known, len(prefix)) if known.startswith(prefix) else 0.0
    return _ratio(name, known)


def _ratio(one: str, other: str, after: int = 0) -> float:
    return SequenceMatcher(None, one[after:], other[after:], autojunk=False).ratio()
