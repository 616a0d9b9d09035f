"""Parser for the settings text that AUTOMATIC1111's web UI and other tools write.

The text has three parts: the lines of the prompt, the lines of the negative prompt (the first one
begins with `Negative prompt:`), and one line with settings, such as `Steps: 20, Sampler: Euler`.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import Unreadable, lora, names_of, object_in

# Names in the result of `parse` that are the same for all tools with this format.
NAMES: Final = names_of(
    "prompt negative_prompt",
    **{name.lower(): name for name in ("Seed", "Steps", "Sampler", "Model", "Size")},
)
_NEGATIVE: Final = "Negative prompt:"
_LORA: Final = re.compile(r"<lora:([^:<>]{1,256}):([^<>]{1,64})>")
_QUOTED: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"')  # possessive: it cannot backtrack
_KNOWN: Final = {"Steps", "Seed", "Size", "Sampler", "CFG scale", "Guidance Scale", "Model"}
_MIN_SETTINGS: Final = 3
_MAX_SETTINGS: Final = 256
_MAX_LORAS: Final = 100
_LOOKS_OF_A_LORA: Final = 3


def parse(text: str, budget: WorkBudget, *, negative: str = _NEGATIVE) -> dict[str, Any]:
    """Parse a settings text. Return a dictionary of settings, `prompt` and `negative_prompt`.

    `negative` is the label before the negative prompt. Without that label, `negative_prompt` is
    None. If a setting is repeated, its first value is used.
    """
    budget.produce(len(text))
    budget.look(text.count("\n"))
    lines = [line.strip() for line in text.replace("\r\n", "\n").strip().split("\n")]
    lines, settings = _split_settings(lines, budget)
    at = next((at for at, line in enumerate(lines) if line.startswith(negative)), len(lines))
    below = None
    if at < len(lines):
        below = "\n".join([lines[at].removeprefix(negative).strip(), *lines[at + 1 :]])
    return {**settings, "prompt": "\n".join(lines[:at]), "negative_prompt": below}


def _split_settings(lines: list[str], budget: WorkBudget) -> tuple[list[str], dict[str, str]]:
    """Return the lines before the settings, and the settings. Later lines are dropped."""
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith("Steps: "):
            settings = _parse_settings(lines[at], budget)
            if len(settings) >= _MIN_SETTINGS:
                return lines[:at], settings
    settings = _parse_settings(lines[-1], budget)
    if len(settings) >= _MIN_SETTINGS and len(_KNOWN & settings.keys()) >= _MIN_SETTINGS - 1:
        return lines[:-1], settings
    return lines, {}


def _parse_settings(line: str, budget: WorkBudget) -> dict[str, str]:
    """Parse a line with settings in linear time. A value that contains commas is a JSON string."""
    settings: dict[str, str] = {}
    at, quotes_close = 0, True
    for _ in range(_MAX_SETTINGS):
        budget.look()
        colon = line.find(":", at)
        if colon < 0:
            break
        name = line[at:colon].rpartition(",")[2].strip()
        at = colon + 1
        while at < len(line) and line[at] == " ":
            at += 1
        quoted = _QUOTED.match(line, at) if quotes_close and line[at : at + 1] == '"' else None
        if quoted is not None:
            value, end = _unquote(quoted[0], budget), quoted.end()
        else:
            quotes_close = quotes_close and line[at : at + 1] != '"'
            end = line.find(",", at)
            end = len(line) if end < 0 else end
            value = line[at:end].strip()
        settings.setdefault(name, value)
        at = end + 1
    return settings


def loras_in(prompt: str, budget: WorkBudget) -> Iterable[tuple[str, float | None]]:
    """Return the name and the first weight of each LoRA tag (`<lora:name:0.5>`) in a prompt."""
    loras: dict[tuple[str, float | None], None] = {}
    for match in _LORA.finditer(prompt):
        budget.look(_LOOKS_OF_A_LORA)
        weight = match[2].partition(":")[0].rpartition("=")[2]
        lora_ = lora(match[1], weight)
        if lora_ is not None:
            loras[lora_.name, lora_.weight] = None
        if len(loras) == _MAX_LORAS:
            break
    return loras


def _unquote(text: str, budget: WorkBudget) -> str:
    try:
        return str((object_in(f'{{"value": {text}}}', budget) or {})["value"])
    except Unreadable:
        return text[1:-1]
