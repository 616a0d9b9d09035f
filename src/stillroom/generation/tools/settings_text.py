"""The text that AUTOMATIC1111's web UI began and others took over, as three parts.

A prompt, a line `Negative prompt: …` and those below it, and a line `Steps: 20, Sampler: …`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stillroom.generation.facts import Lora, lora
from stillroom.generation.texts import Unreadable, json_object
from stillroom.work_budget import WorkBudget

_NEGATIVE: Final = "Negative prompt:"
_LORA: Final = re.compile(r"<lora:([^:<>]{1,256}):([^<>]{1,64})>")
_QUOTED: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"')  # possessive: nothing is kept to go back to
_KNOWN: Final = {"Steps", "Seed", "Size", "Sampler", "CFG scale", "Guidance Scale", "Model"}
_MIN_SETTINGS: Final = 3
_MAX_SETTINGS: Final = 256
_MAX_LORAS: Final = 100
_LOOKS_OF_A_LORA: Final = 3


@dataclass(frozen=True, slots=True)
class SettingsText:
    """The three parts; of a setting that is there twice, the first."""

    prompt: str
    negative_prompt: str | None
    settings: Mapping[str, str]


def parse(text: str, budget: WorkBudget, *, negative: str = _NEGATIVE) -> SettingsText:
    """Take a text apart; `settings` is empty where it has no such line.

    Args:
        text: With lines of either kind.
        budget: Spent by its characters, lines and settings.
        negative: What begins the line of the negative prompt.

    Raises:
        TooMuchWork: the budget is spent.
    """
    budget.produce(len(text))
    budget.look(text.count("\n"))
    lines = [line.strip() for line in text.replace("\r\n", "\n").strip().split("\n")]
    lines, settings = _without_settings(lines, budget)
    at = next((at for at, line in enumerate(lines) if line.startswith(negative)), None)
    if at is None:
        return SettingsText("\n".join(lines), None, settings)
    below = [lines[at].removeprefix(negative).strip(), *lines[at + 1 :]]
    return SettingsText("\n".join(lines[:at]), "\n".join(below), settings)


def _without_settings(lines: list[str], budget: WorkBudget) -> tuple[list[str], Mapping[str, str]]:
    """The last line that begins with `Steps: `, else the very last one, if it has settings.

    Extensions put lines of their own behind it, such as the templates of dynamic prompts.
    """
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith("Steps: "):
            found = settings_of(lines[at], budget)
            if len(found) >= _MIN_SETTINGS:
                return lines[:at], found
    found = settings_of(lines[-1], budget)
    if len(found) >= _MIN_SETTINGS and len(_KNOWN & found.keys()) >= _MIN_SETTINGS - 1:
        return lines[:-1], found
    return lines, {}


def settings_of(line: str, budget: WorkBudget) -> dict[str, str]:
    """Names and values of a line; a value with commas stands in quotes, as in JSON.

    Each character is passed once, whatever is in the line.
    """
    found: dict[str, str] = {}
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
            value, end = _unquoted(quoted[0], budget), quoted.end()
        else:
            quotes_close = quotes_close and line[at : at + 1] != '"'
            end = line.find(",", at)
            end = len(line) if end < 0 else end
            value = line[at:end].strip()
        found.setdefault(name, value)
        at = end + 1
    return found


def loras_in(prompt: str, budget: WorkBudget) -> tuple[Lora, ...]:
    """What `<lora:name:weight>` in a prompt names; of several weights the first."""
    found: dict[Lora, None] = {}
    for match in _LORA.finditer(prompt):
        budget.look(_LOOKS_OF_A_LORA)
        weight = match[2].partition(":")[0].rpartition("=")[2]
        one = lora(match[1], weight)
        if one is not None:
            found[one] = None
        if len(found) == _MAX_LORAS:
            break
    return tuple(found)


def _unquoted(text: str, budget: WorkBudget) -> str:
    try:
        return str(json_object(f'{{"value": {text}}}', budget)["value"])
    except Unreadable:
        return text[1:-1]
