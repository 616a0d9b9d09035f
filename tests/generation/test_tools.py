"""What is odd in the texts of the tools, one oddity a test."""

import json
from typing import Any

import pytest

from generation import carriers as at
from generation.comfy_graphs import basic, node, with_loras
from generation.whole import find_in
from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import generation_of
from stillroom.generation.reading import interpret
from stillroom.wire.generation import Generation, Lora

END = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768"


def told(**texts: str) -> Generation:
    found = interpret(texts, WorkBudget()).generation
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "prompt", "negative", "seed"),
    [
        (f"a cat\nNegative prompt: x\ny\n{END}", "a cat", "x\ny", 5),
        (f"a cat\r\nNegative prompt: x\r\n{END}", "a cat", "x", 5),
        (f"\n\n{END}", "", None, 5),
        (f"Steps: to heaven, a poem\n{END}", "Steps: to heaven, a poem", None, 5),
        (f"{END}\nNegative prompt: x\n{END.replace('5', '6')}", END, "x", 6),
        ("a cat, no settings", "a cat, no settings", None, None),
        ("a cat\nSeed: 5, CFG scale: 7, Size: 8x8", "a cat", None, 5),
        ("a\nhue: b, tone: c, light: d", "a\nhue: b, tone: c, light: d", None, None),
        (f"a cat\n{END.replace('Seed: 5', 'Seed: -1')}", "a cat", None, None),
        (f"a cat\n{END.replace('Seed: 5', 'Seed: ' + '9' * 30)}", "a cat", None, None),
        (
            f'a cat\n{END}, Civitai resources: [{{"type":"lora","weight":1,"Seed": 9}}], Model: x',
            "a cat", None, 5,
        ),
    ],
)  # fmt: skip
def test_the_web_uis_text_is_taken_apart(
    text: str, prompt: str, negative: str | None, seed: int | None
) -> None:
    found = told(parameters=text)

    assert (found.prompt, found.negative_prompt, found.seed) == (prompt, negative, seed)


def test_loras_are_those_of_the_prompts_tags() -> None:
    text = f"a <lora:ink:0.8> <lora:fog:te=0.5:unet=1> <lora:x> <lora:ink:0.8> <lora:y:z>\n{END}"

    assert told(parameters=text).loras == (Lora("ink", 0.8), Lora("fog", 0.5), Lora("y", None))


def test_a_saver_of_comfyui_that_writes_the_web_uis_text_is_comfyui() -> None:
    graph = json.dumps(basic("other", "", 1))
    found = told(parameters=f"a cat\n{END}", prompt=graph)

    assert (found.tool, found.prompt, found.seed) == ("ComfyUI", "a cat", 5)


def test_the_editors_graph_without_the_one_that_ran_tells_no_fact_and_is_kept() -> None:
    workflow = {"nodes": [{"id": 3, "type": "KSampler", "widgets_values": [7]}], "links": []}

    found = told(workflow=json.dumps(workflow))

    assert found == Generation(tool="ComfyUI", raw={"workflow": workflow})


def test_loras_of_a_graph_stand_in_the_order_in_which_they_are_loaded() -> None:
    found = told(prompt=json.dumps(with_loras("a", "b", 1)))

    assert found.loras == (Lora("ink.safetensors", 0.8), Lora("fog.safetensors", 0.5))


@pytest.mark.parametrize(
    ("stack", "loras"),
    [
        (
            {"lora_name_1": "a", "model_weight_1": 0.5, "switch_1": "On",
             "lora_name_2": "b", "model_weight_2": 1, "switch_2": "Off", "lora_name_3": "None"},
            [("a", 0.5)],
        ),
        (
            {"lora_count": 2, "lora_name_1": "a", "lora_wt_1": 1, "lora_name_2": "b",
             "lora_wt_2": 0.25, "lora_name_3": "c", "lora_wt_3": 1},
            [("a", 1.0), ("b", 0.25)],
        ),
    ],
)  # fmt: skip
def test_stacks_of_loras_are_counted_with_their_switches(
    stack: dict[str, Any], loras: list[tuple[str, float]]
) -> None:
    graph = basic("a", "b", 1)
    graph["20"] = node("LoRA Stack", **stack)
    graph["21"] = node("Apply LoRA Stack", model=["4", 0], clip=["4", 1], lora_stack=["20", 0])
    graph["3"]["inputs"]["model"] = ["21", 0]

    found = told(prompt=json.dumps(graph))

    assert found.loras == tuple(Lora(*one) for one in loras)
    assert found.model == "sd_xl_base_1.0.safetensors"


def test_texts_for_two_encoders_that_differ_are_not_told() -> None:
    graph = basic("a", "b", 1)
    for clip, t5, expected in (("a", "a", "a"), ("", "a", "a"), ("a", "b", None)):
        graph["6"] = node("CLIPTextEncodeFlux", clip_l=clip, t5xxl=t5, guidance=3.5, clip=["4", 0])
        assert told(prompt=json.dumps(graph)).prompt == expected


def test_a_wildcard_is_told_as_it_was_drawn() -> None:
    graph = basic("a", "b", 1)
    graph["6"] = node("ImpactWildcardEncode", wildcard_text="{a|b}", populated_text="b cat",
                      mode="populate", seed=3, model=["4", 0], clip=["4", 1])  # fmt: skip

    assert told(prompt=json.dumps(graph)).prompt == "b cat"


def test_brackets_of_an_old_invokeai_are_its_negative_prompt() -> None:
    found = told(Dream='"a cat [blurry] in snow [text]" -s 50 -S 7 -W 512 -H 768 -C 7.5 -A k_lms')

    assert (found.prompt, found.negative_prompt) == ("a cat  in snow", "blurry text")
    assert (found.steps, found.seed, found.width, found.cfg_scale) == (50, 7, 512, 7.5)


def test_several_prompts_with_weights_are_not_told() -> None:
    image = {"prompt": [{"prompt": "a", "weight": 1}, {"prompt": "b", "weight": 1}], "seed": 5}

    found = told(**{"sd-metadata": json.dumps({"image": image})})

    assert (found.prompt, found.seed) == (None, 5)


def test_facts_of_a_newer_version_are_read_as_far_as_they_are_known() -> None:
    given = {"prompt": "a", "seed": "7", "steps": True, "loras": [{"name": "x"}, 5], "new": 1}

    assert generation_of(given) == Generation(prompt="a", seed=7, loras=(Lora("x"),))


def test_xmp_may_have_its_properties_as_attributes() -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        'syntax-ns#"><rdf:Description xmlns:s="urn:stillroom:generation:1#" '
        's:generation="{&quot;seed&quot;:7}"/></rdf:RDF></x:xmpmeta>'
    )
    for form in ("PNG", "JPEG", "WEBP", "AVIF"):
        found = find_in(at.with_xmp(form, packet)).generation
        assert found == Generation(tool="Stillroom", seed=7)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("encoding", ["unicode", "little"])
@pytest.mark.parametrize("prompt", ["a cat", "猫と雨の夜", "émile 🦊"])
def test_utf_16_is_read_in_both_orders_whatever_the_block_says(
    prompt: str, encoding: str, order: str
) -> None:
    block = at.commented(f"{prompt}\n{END}", encoding, order)

    found = find_in(at.with_exif("JPEG", block)).generation

    assert found is not None
    assert (found.prompt, found.seed) == (prompt, 5)


def test_text_in_utf_8_is_read_where_a_png_should_have_latin_1() -> None:
    for encoding in ("utf-8", "latin-1"):
        text = f"parameters\0émile, façade\n{END}".encode(encoding)
        found = find_in(at.png_with(at.chunk(b"tEXt", text))).generation
        assert found is not None
        assert found.prompt == "émile, façade"
