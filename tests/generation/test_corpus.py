"""The facts in some 400 files as the tools write them."""

from collections.abc import Mapping
from typing import Any

import pytest

from generation.corpus import corpus
from generation.whole import find_in
from stillroom.generation.reading import Found

CORPUS = corpus()


def facts_of(found: Found) -> Mapping[str, Any]:
    return found.generation.as_json() if found.generation is not None else {}


def test_the_corpus_is_large_and_has_each_tool() -> None:
    tools = {sample.facts["tool"] for sample in CORPUS}

    assert len(CORPUS) >= 300
    assert tools == {
        "A1111", "Forge", "SD.Next", "ComfyUI", "InvokeAI", "Fooocus", "SwarmUI", "NovelAI",
        "DrawThings",
    }  # fmt: skip


@pytest.mark.parametrize("fact", ["prompt", "seed"])
def test_95_of_100_prompts_and_seeds_are_right(fact: str) -> None:
    right = [s for s in CORPUS if facts_of(find_in(s.data)).get(fact) == s.facts[fact]]
    others = {sample.name for sample in CORPUS if sample not in right}

    assert len(right) >= 0.95 * len(CORPUS), others


def test_no_fact_is_wrong_without_being_null() -> None:
    wrong = [
        (sample.name, fact, found, expected)
        for sample in CORPUS
        for fact, expected in sample.facts.items()
        for found in [facts_of(find_in(sample.data)).get(fact)]
        if found != expected and found is not None
    ]
    assert wrong == []
