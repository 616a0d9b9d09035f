"""Parser for NovelAI: a JSON object in `Comment`, and `Description`, `Software` and `Source`.

The copy in the lowest bits of the alpha channel is not read, because that needs all pixels.
Sources: NovelAI's own images, and the parsers of receyuki/stable-diffusion-prompt-reader
(format/novelai.py) and NovelAI/novelai-image-metadata (nai_meta.py). A WebP has the same fields as
one JSON object in the EXIF comment.
"""

from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import MAX_SEED, Generation, name, number, object_in, text, whole

TOOL: Final = "NovelAI"
_KEY: Final = "Comment"
FIELDS: Final = ("Comment", "Description", "Software", "Source", "Title")


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the generation parameters if `Software` is NovelAI, else return None."""
    texts = _unfold(texts, budget)
    if texts.get("Software") != TOOL or _KEY not in texts:
        return None
    comment = object_in(texts[_KEY], budget) or {}
    prompt = comment.get("prompt")
    return Generation(
        tool=TOOL,
        prompt=text(prompt if prompt is not None else texts.get("Description")),
        negative_prompt=text(comment.get("uc")),
        seed=whole(comment.get("seed"), MAX_SEED),
        steps=whole(comment.get("steps")),
        cfg_scale=number(comment.get("scale")),
        sampler=name(comment.get("sampler")),
        scheduler=name(comment.get("noise_schedule")),
        model=name(texts.get("Source")),
        width=whole(comment.get("width")),
        height=whole(comment.get("height")),
        raw={**{field: text(texts[field]) for field in FIELDS if field in texts}, _KEY: comment},
    )


def _unfold(texts: Mapping[str, str], budget: WorkBudget) -> Mapping[str, str]:
    comment = texts.get("exif:UserComment", "")
    if '"NovelAI"' not in comment:
        return texts
    fields: dict[str, Any] = object_in(comment, budget) or {}
    return {field: value for field, value in fields.items() if isinstance(value, str)}
