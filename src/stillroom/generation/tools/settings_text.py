"""Parser for the settings text that AUTOMATIC1111's web UI and other tools write.

The text is the prompt, `Negative prompt: …` with further lines, and `Steps: 20, Sampler: …`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import Unreadable, lora, names_of, object_in

NAMES: Final = names_of(seed="Seed", steps="Steps", sampler="Sampler", model="Model", size="Size")
"""Names of the settings that are the same in all tools with this format."""

_NEGATIVE: Final = "Negative prompt:"
_LORA: Final = re.compile(r"<lora:([^:<>]{1,256}):([^<>]{1,64})>")
_QUOTED: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"')  # possessive: it cannot backtrack
_KNOWN: Final = {"Steps", "Seed", "Size", "Sampler", "CFG scale", "Guidance Scale", "Model"}
_MIN_SETTINGS: Final = 3
_MAX_SETTINGS: Final = 256
_MAX_LORAS: Final = 100
_LOOKS_OF_A_LORA: Final = 3


class SettingsText(NamedTuple):
    """Parts of a settings text. If a setting is repeated, its first value is used."""

    prompt: str
    negative_prompt: str | None
    settings: Mapping[str, str]


def parse(text: str, budget: WorkBudget, *, negative: str = _NEGATIVE) -> SettingsText:
    """Split a text into prompt, negative prompt (after the label `negative`) and settings."""
    budget.produce(len(text))
    budget.look(text.count("\n"))
    lines = [line.strip() for line in text.replace("\r\n", "\n").strip().split("\n")]
    lines, settings = _split_settings(lines, budget)
    at = next((at for at, line in enumerate(lines) if line.startswith(negative)), None)
    if at is None:
        return SettingsText("\n".join(lines), None, settings)
    below = [lines[at].removeprefix(negative).strip(), *lines[at + 1 :]]
    return SettingsText("\n".join(lines[:at]), "\n".join(below), settings)


def _split_settings(lines: list[str], budget: WorkBudget) -> tuple[list[str], Mapping[str, str]]:
    """Split off the line with settings. Lines that extensions append below it are dropped."""
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
    """Parse a line with settings in linear time. Values with commas are quoted as in JSON."""
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
    """Return the name and (first) weight of each LoRA, such as `<lora:name:0.5>`, in a prompt."""
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
