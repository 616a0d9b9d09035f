"""Parser for InvokeAI: `invokeai_metadata` (version 3 on), `sd-metadata` (2) and `Dream` (1).

Sources: invoke-ai/InvokeAI, invokeai/app/invocations/metadata.py (CoreMetadataInvocation), and of
version 2 ldm/invoke/pngwriter.py and docs/features/OTHER.md. InvokeAI's scheduler is returned as
`scheduler`, although other tools call it a sampler.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import (
    MAX_SEED,
    Generation,
    Lora,
    lora,
    name,
    number,
    object_in,
    text,
    whole,
)
from stillroom.generation.texts import Unreadable

_KEY: Final = "invokeai_metadata"
_KEY_2: Final = "sd-metadata"
_KEY_1: Final = "Dream"
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\]")
_FLAG: Final = re.compile(r"(?:^|\s)-(s|S|W|H|C|A)\s{0,8}(\S{1,64})")
_MAX_LORAS: Final = 100


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the generation parameters if one of the three names is present, else return None."""
    for key, reader in ((_KEY, _facts_of), (_KEY_2, _facts_of_version_2)):
        if key in texts:
            metadata = object_in(texts[key], budget)
            if metadata is None:
                raise Unreadable
            return reader(metadata)
    return _facts_of_command(texts[_KEY_1]) if _KEY_1 in texts else None


def _facts_of(metadata: dict[str, Any]) -> Generation:
    return Generation(
        tool="InvokeAI",
        prompt=text(metadata.get("positive_prompt")),
        negative_prompt=text(metadata.get("negative_prompt")),
        seed=whole(metadata.get("seed"), MAX_SEED),
        steps=whole(metadata.get("steps")),
        cfg_scale=number(metadata.get("cfg_scale")),
        scheduler=name(metadata.get("scheduler")),
        model=_model(metadata.get("model")),
        loras=_loras(metadata.get("loras")),
        width=whole(metadata.get("width")),
        height=whole(metadata.get("height")),
        raw={_KEY: metadata},
    )


def _facts_of_version_2(metadata: dict[str, Any]) -> Generation:
    image = metadata.get("image")
    if not isinstance(image, dict):
        images = metadata.get("images")
        image = images[0] if isinstance(images, list) and len(images) == 1 else {}
    if not isinstance(image, dict):
        raise Unreadable
    prompts = image.get("prompt")
    if isinstance(prompts, list) and len(prompts) == 1 and isinstance(prompts[0], dict):
        prompts = prompts[0].get("prompt")
    prompt, negative = _split(prompts) if isinstance(prompts, str) else (None, None)
    return Generation(
        tool="InvokeAI",
        prompt=prompt,
        negative_prompt=negative,
        seed=whole(image.get("seed"), MAX_SEED),
        steps=whole(image.get("steps")),
        cfg_scale=number(image.get("cfg_scale")),
        sampler=name(image.get("sampler")),
        model=name(metadata.get("model_weights")),
        width=whole(image.get("width")),
        height=whole(image.get("height")),
        raw={_KEY_2: metadata},
    )


def _facts_of_command(command: str) -> Generation | None:
    """Parse a command line of version 1: the prompt in quotes, followed by options."""
    head, quote, options = command.rpartition('"')
    if not quote or not head.startswith('"'):
        return None
    flags = dict(reversed(_FLAG.findall(options)))
    prompt, negative = _split(head[1:])
    return Generation(
        tool="InvokeAI",
        prompt=prompt,
        negative_prompt=negative,
        seed=whole(flags.get("S"), MAX_SEED),
        steps=whole(flags.get("s")),
        cfg_scale=number(flags.get("C")),
        sampler=name(flags.get("A")),
        width=whole(flags.get("W")),
        height=whole(flags.get("H")),
        raw={_KEY_1: text(command)},
    )


def _split(text_: str) -> tuple[str | None, str | None]:
    """Split a prompt that contains a negative prompt in brackets. Return both, without brackets."""
    negatives = [part.strip() for part in _BRACKETED.findall(text_)]
    prompt = _BRACKETED.sub("", text_).strip() if negatives else text_
    return text(prompt), text(" ".join(negatives)) if negatives else None


def _model(value: object) -> str | None:
    if isinstance(value, dict):
        return name(value.get("name") or value.get("model_name"))
    return name(value)


def _loras(value: object) -> tuple[Lora, ...] | None:
    """Parse a list of LoRAs, whose names are under `lora` (version 3) or `model` (later)."""
    if not isinstance(value, list):
        return () if value is None else None
    loras = (
        lora(_model(item.get("model") or item.get("lora")), item.get("weight"))
        for item in value[:_MAX_LORAS]
        if isinstance(item, dict)
    )
    return tuple(lora_ for lora_ in loras if lora_ is not None)
