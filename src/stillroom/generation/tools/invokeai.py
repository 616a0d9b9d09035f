"""Parser for InvokeAI, whose versions write different texts.

Version 1 writes `Dream`, version 2 `sd-metadata`, and later versions `invokeai_metadata`, which
contains input images in `init_image`, and in fields of the type `ImageField`, which have an
`image_name`. InvokeAI's scheduler is returned as `scheduler`; other tools call it a sampler.
Sources: invoke-ai/InvokeAI, invokeai/app/invocations/metadata.py (CoreMetadataInvocation), and for
version 2 ldm/invoke/pngwriter.py and docs/features/OTHER.md.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation import facts
from stillroom.generation.origins import origins_of
from stillroom.wire.generation import Generation

_KEY: Final = "invokeai_metadata"
_KEY_2: Final = "sd-metadata"
_KEY_1: Final = "Dream"
_IMAGES: Final = ("init_image", "image_name")
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\]")
_FLAG: Final = re.compile(r"(?:^|\s)-(s|S|W|H|C|A)\s{0,8}(\S{1,64})")
_NAMES: Final = facts.names_of(
    "negative_prompt seed steps cfg_scale scheduler width height", prompt="positive_prompt"
)
_NAMES_2: Final = facts.names_of("seed steps cfg_scale sampler width height")
_NAMES_1: Final = facts.names_of(
    seed="S", steps="s", cfg_scale="C", sampler="A", width="W", height="H"
)


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse generation parameters if the texts are from InvokeAI, else return None."""
    if _KEY in texts:
        return _facts_of(facts.required_object(texts[_KEY], budget), budget)
    if _KEY_2 in texts:
        return _facts_of_version_2(facts.required_object(texts[_KEY_2], budget))
    return _facts_of_command(texts[_KEY_1]) if _KEY_1 in texts else None


def _facts_of(metadata: dict[str, Any], budget: WorkBudget) -> Generation:
    raw, model = {_KEY: metadata}, _model(metadata.get("model"))
    known = {"model": model, "derived_from": origins_of(_input_images(metadata, budget))}
    loras = _loras(metadata.get("loras"))
    return facts.parse_facts(metadata, _NAMES, raw, tool="InvokeAI", loras=loras, **known)


def _input_images(value: object, budget: WorkBudget) -> Iterator[object]:
    if isinstance(value, dict) and value.get("isEnabled") is not False:
        budget.look(len(value))
        yield from (value[key] for key in _IMAGES if key in value)
        value = [*value.values()]
    if isinstance(value, list):
        budget.look(len(value))
        for item in value:
            yield from _input_images(item, budget)


def _facts_of_version_2(metadata: dict[str, Any]) -> Generation:
    match metadata:
        case {"image": dict(image)} | {"images": [dict(image)]}:
            pass
        case {"images": [_]}:
            raise facts.Unreadable
        case _:
            image = {}
    match image.get("prompt"):
        case str(prompts) | [{"prompt": str(prompts)}]:
            known = _split(prompts)
        case _:
            known = {}
    known["model"] = facts.name(metadata.get("model_weights"))
    return facts.parse_facts(image, _NAMES_2, {_KEY_2: metadata}, tool="InvokeAI", **known)


def _facts_of_command(command: str) -> Generation | None:
    """Parse a command line of InvokeAI 1: the prompt in quotes, followed by options."""
    head, quote, options = command.rpartition('"')
    if not quote or not head.startswith('"'):
        return None
    flags = dict(reversed(_FLAG.findall(options)))
    raw, known = {_KEY_1: facts.text(command)}, _split(head[1:])
    return facts.parse_facts(flags, _NAMES_1, raw, tool="InvokeAI", **known)


def _split(prompts: str) -> dict[str, Any]:
    """Split a text into the prompt and the negative prompts, which are in square brackets."""
    negatives = [part.strip() for part in _BRACKETED.findall(prompts)]
    if not negatives:
        return {"prompt": facts.text(prompts)}
    prompt = _BRACKETED.sub("", prompts).strip()
    return {"prompt": facts.text(prompt), "negative_prompt": facts.text(" ".join(negatives))}


def _model(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("name") or value.get("model_name")
    return facts.name(value)


def _loras(value: object) -> list[tuple[object, object]] | None:
    items = facts.items_in(() if value is None else value, dict)
    if items is None:
        return None
    return [(_model(item.get("model") or item.get("lora")), item.get("weight")) for item in items]
