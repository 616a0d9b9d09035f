"""Warnings about environment variables that no setting reads."""

from collections.abc import Collection
from difflib import SequenceMatcher
from typing import Final

from stillroom.errors import ConfigurationError

PREFIXES: Final = ("STILLROOM_", "R2_", "CLOUDFLARE_")

BUCKET: Final = ("R2_ENDPOINT_URL", "R2_ACCESS_KEY_ID")  # each of them selects the bucket
_TOKENS: Final = "STILLROOM_JWT_"  # an unknown variable with this prefix is an error

_MISSPELLED: Final = 0.8
"""Minimum `difflib` ratio of misspelled names: `DATADIR` reaches it, `R2_ACCOUNT_ID` does not."""

_SIMILAR: Final = 0.6


def find_unread(names: Collection[str], known: Collection[str]) -> list[str]:
    """Return a warning for each Stillroom variable in `names` that is not one of the `known`.

    Raises `ConfigurationError` if a name is probably a misspelled setting, which may be a limit.
    """
    warnings = []
    for name in sorted(filter(_is_like_ours, set(names) - set(known))):
        meant, likeness = max(
            ((other, _likeness(name, other)) for other in known), key=lambda pair: pair[1]
        )
        ours = name.startswith("STILLROOM_")
        if name.startswith(_TOKENS) or (likeness >= _MISSPELLED and meant not in names):
            hint = f"did you mean {meant}?" if likeness >= _SIMILAR else "unset it"
            raise ConfigurationError(f"{name} is set, but there is no such setting: {hint}")
        if ours or likeness >= _MISSPELLED:
            hint = f"{meant} is the nearest setting" if likeness >= _SIMILAR else "unset it"
            warnings.append(f"{name} is set, but it is not a setting: {hint}")
    return warnings


def _is_like_ours(name: str) -> bool:
    return name.startswith(PREFIXES) or (
        _ratio(name.partition("_")[0], PREFIXES[0].rstrip("_")) > _MISSPELLED
    )


def _likeness(name: str, known: str) -> float:
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return _ratio(name, known, len(prefix)) if known.startswith(prefix) else 0.0
    return _ratio(name, known)


def _ratio(first: str, second: str, after: int = 0) -> float:
    if sorted(first) == sorted(second):  # swapped letters
        return 1.0
    return SequenceMatcher(None, first[after:], second[after:], autojunk=False).ratio()
