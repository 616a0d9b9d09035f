"""Parser for NovelAI: texts `Description`, `Software`, `Source`, and `Comment` (a JSON object).

A WebP has these fields in one JSON object in the EXIF comment. The second copy of the metadata, in
the alpha channel, is not read, since that requires decoding all pixels.
Sources: NovelAI's own images, and the parsers of receyuki/stable-diffusion-prompt-reader
(format/novelai.py) and NovelAI/novelai-image-metadata (nai_meta.py).
"""

from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import name, names_of, object_in, parse_facts, text
from stillroom.wire.generation import Generation

TOOL: Final = "NovelAI"
_KEY: Final = "Comment"
_NAMES: Final = names_of(
    "seed steps sampler width height",
    negative_prompt="uc",
    cfg_scale="scale",
    scheduler="noise_schedule",
)
FIELDS: Final = ("Comment", "Description", "Software", "Source", "Title")


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse generation parameters if the text `Software` is NovelAI, else return None."""
    texts = _unfold(texts, budget)
    if texts.get("Software") != TOOL or _KEY not in texts:
        return None
    comment = object_in(texts[_KEY], budget) or {}
    prompt = comment.get("prompt")
    raw = {field: text(texts[field]) for field in FIELDS if field in texts} | {_KEY: comment}
    prompt = text(texts.get("Description") if prompt is None else prompt)
    model = name(texts.get("Source"))
    return parse_facts(comment, _NAMES, raw, tool=TOOL, prompt=prompt, model=model)


def _unfold(texts: Mapping[str, str], budget: WorkBudget) -> Mapping[str, str]:
    """Return NovelAI's texts. A WebP has them as a JSON object in an EXIF comment."""
    comment = texts.get("exif:UserComment", "")
    if '"NovelAI"' not in comment:
        return texts
    fields: dict[str, Any] = object_in(comment, budget) or {}
    return {field: value for field, value in fields.items() if isinstance(value, str)}
