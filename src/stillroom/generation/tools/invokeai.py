"""InvokeAI: `invokeai_metadata` (3 and later), `sd-metadata` (2) and `Dream` (1).

Sources: invoke-ai/InvokeAI, invokeai/app/invocations/metadata.py (CoreMetadataInvocation), and of
version 2 ldm/invoke/pngwriter.py and docs/features/OTHER.md. What InvokeAI calls a scheduler is
given as one, though other tools call it a sampler.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

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
from stillroom.work_budget import WorkBudget

_KEY: Final = "invokeai_metadata"
_KEY_2: Final = "sd-metadata"
_KEY_1: Final = "Dream"
_UNWANTED: Final = re.compile(r"\[([^\[\]]*)\]")
_FLAG: Final = re.compile(r"(?:^|\s)-(s|S|W|H|C|A)\s{0,8}(\S{1,64})")
_MAX_LORAS: Final = 100


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """The facts, if there is one of the three names.

    Raises:
        Unreadable: there is, and it is not of its form.
    """
    for key, reader in ((_KEY, _of), (_KEY_2, _of_version_2)):
        if key in texts:
            given = object_in(texts[key], budget)
            if given is None:
                raise Unreadable
            return reader(given)
    return _of_command(texts[_KEY_1]) if _KEY_1 in texts else None


def _of(given: dict[str, Any]) -> Generation:
    return Generation(
        tool="InvokeAI",
        prompt=text(given.get("positive_prompt")),
        negative_prompt=text(given.get("negative_prompt")),
        seed=whole(given.get("seed"), MAX_SEED),
        steps=whole(given.get("steps")),
        cfg_scale=number(given.get("cfg_scale")),
        scheduler=name(given.get("scheduler")),
        model=_model(given.get("model")),
        loras=_loras(given.get("loras")),
        width=whole(given.get("width")),
        height=whole(given.get("height")),
        raw={_KEY: given},
    )


def _of_version_2(given: dict[str, Any]) -> Generation:
    image = given.get("image")
    if not isinstance(image, dict):
        images = given.get("images")
        image = images[0] if isinstance(images, list) and len(images) == 1 else {}
    if not isinstance(image, dict):
        raise Unreadable
    said = image.get("prompt")
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], dict):
        said = said[0].get("prompt")
    prompt, negative = _split(said) if isinstance(said, str) else (None, None)
    return Generation(
        tool="InvokeAI",
        prompt=prompt,
        negative_prompt=negative,
        seed=whole(image.get("seed"), MAX_SEED),
        steps=whole(image.get("steps")),
        cfg_scale=number(image.get("cfg_scale")),
        sampler=name(image.get("sampler")),
        model=name(given.get("model_weights")),
        width=whole(image.get("width")),
        height=whole(image.get("height")),
        raw={_KEY_2: given},
    )


def _of_command(said: str) -> Generation | None:
    """A command line: the prompt in quotes, and options behind it."""
    head, quote, options = said.rpartition('"')
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
        raw={_KEY_1: text(said)},
    )


def _split(said: str) -> tuple[str | None, str | None]:
    """The prompt, and the negative one, which stands in brackets in it."""
    unwanted = [one.strip() for one in _UNWANTED.findall(said)]
    prompt = _UNWANTED.sub("", said).strip() if unwanted else said
    return text(prompt), text(" ".join(unwanted)) if unwanted else None


def _model(value: object) -> str | None:
    if isinstance(value, dict):
        return name(value.get("name") or value.get("model_name"))
    return name(value)


def _loras(value: object) -> tuple[Lora, ...] | None:
    """In version 3 a LoRA is under `lora`, later under `model`."""
    if not isinstance(value, list):
        return () if value is None else None
    found = (
        lora(_model(one.get("model") or one.get("lora")), one.get("weight"))
        for one in value[:_MAX_LORAS]
        if isinstance(one, dict)
    )
    return tuple(one for one in found if one is not None)
