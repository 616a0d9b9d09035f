"""NovelAI: `Comment`, a JSON object, beside `Description`, `Software` and `Source`.

Its copy in the lowest bits of the alpha channel ("stealth") is out of scope: it takes all pixels.
Sources: NovelAI's own images, and the parsers of receyuki/stable-diffusion-prompt-reader
(format/novelai.py) and NovelAI/novelai-image-metadata (nai_meta.py). A WebP has the same fields as
one JSON object in the comment of EXIF.
"""

from collections.abc import Mapping
from typing import Any, Final

from stillroom.generation.facts import MAX_SEED, Generation, name, number, object_in, text, whole
from stillroom.work_budget import WorkBudget

_KEY: Final = "Comment"
_FIELDS: Final = ("Comment", "Description", "Software", "Source", "Title")


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """The facts, if `Software` says that they are NovelAI's.

    Raises:
        Unreadable: it does, and the comment is no JSON object.
    """
    texts = _unfolded(texts, budget)
    if texts.get("Software") != "NovelAI" or _KEY not in texts:
        return None
    given = object_in(texts[_KEY], budget) or {}
    prompt = given.get("prompt")
    return Generation(
        tool="NovelAI",
        prompt=text(prompt if prompt is not None else texts.get("Description")),
        negative_prompt=text(given.get("uc")),
        seed=whole(given.get("seed"), MAX_SEED),
        steps=whole(given.get("steps")),
        cfg_scale=number(given.get("scale")),
        sampler=name(given.get("sampler")),
        scheduler=name(given.get("noise_schedule")),
        model=name(texts.get("Source")),
        width=whole(given.get("width")),
        height=whole(given.get("height")),
        raw={**{one: text(texts[one]) for one in _FIELDS if one in texts}, _KEY: given},
    )


def _unfolded(texts: Mapping[str, str], budget: WorkBudget) -> Mapping[str, str]:
    said = texts.get("exif:UserComment", "")
    if '"NovelAI"' not in said:
        return texts
    given: dict[str, Any] = object_in(said, budget) or {}
    return {one: value for one, value in given.items() if isinstance(value, str)}
