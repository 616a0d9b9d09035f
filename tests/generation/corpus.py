"""Some 400 files in the formats of the tools, several versions of each, and what they say.

Written from the tools' documents and sources, which the files in `generation/tools` name.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from xml.sax.saxutils import escape

from generation import carriers as at
from generation.comfy_graphs import GRAPHS, basic

PROMPTS: Final = (
    "a red fox in the snow",
    "masterpiece, (best quality:1.2), 1girl, <lora:ink-lines:0.8>, [blurry:sharp:0.5]",
    "first line,\nsecond line: with a colon,\nthird",
    "夜の街を歩く猫、雨、ネオン",
    "émile, façade, ¿qué?",
    'a sign that says "50% off, today", C:\\fox\\new',
    "🦊 fox emoji, naïve 🏔",
    "<script>alert(1)</script> & <b>bold</b>",
    "a clock at 12:30, f/1.8, ISO 100",
    "fox, " * 400 + "end",
)
NEGATIVES: Final = ("blurry, low quality", "worst quality, (bad hands:1.4)", "", "ぼやけた")
SEEDS: Final = (0, 7, 965400086, 2**32 - 1, 2**53 + 1, 2**63 - 1)


@dataclass(frozen=True)
class Sample:
    """One file, and what is to be found in it; `facts` that are not named may be anything."""

    name: str
    data: bytes
    facts: dict[str, Any] = field(default_factory=dict)


def cases(most: int = len(PROMPTS)) -> Iterator[tuple[str, str, int]]:
    """Prompt, negative prompt and seed, in ever other pairs."""
    yield from itertools.islice(
        zip(PROMPTS, itertools.cycle(NEGATIVES), itertools.cycle(SEEDS), strict=False), most
    )


def _facts(tool: str, prompt: str, negative: str | None, seed: int, **more: Any) -> dict[str, Any]:
    return {"tool": tool, "prompt": prompt, "negative_prompt": negative, "seed": seed, **more}


# AUTOMATIC1111 and its kin

_SIZE: Final = "Seed: {seed}, Size: 512x768"
_ENDS: Final = {
    "a1111-1.0": f"Sampler: Euler a, CFG scale: 7, {_SIZE}, Model hash: 45dee52b",
    "a1111-1.6": (
        f"Sampler: DPM++ 2M Karras, CFG scale: 7.5, {_SIZE}, Model hash: 6ce0161689, "
        "Model: v1-5-pruned-emaonly, Denoising strength: 0.5, Hires upscale: 2, "
        "Hires upscaler: Latent, Version: v1.6.0"
    ),
    "a1111-1.10": (
        f"Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, {_SIZE}, Model hash: 6ce016, "
        'Model: v1-5-pruned-emaonly, Hires prompt: "a, b: c", ADetailer model: yolov8n.pt, '
        'ADetailer prompt: "face, Seed: 5", Lora hashes: "ink-lines: 76ea, fog: 1f2c", '
        'TI hashes: "easyneg: c74b", Version: v1.10.1'
    ),
    "forge": (
        f"Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, "
        f"{_SIZE}, Model hash: 275ef623d3, Model: flux1-dev-fp8, "
        "Version: f2.0.1v1.10.1-previous-313-g8a042934, Module 1: ae"
    ),
    "sdnext": (
        "Size: 512x768, Sampler: UniPC, Seed: {seed}, CFG scale: 6, App: SD.Next, Version: 0e0f"
        ", Pipeline: StableDiffusionXLPipeline, Model: juggernautXL"
    ),
    "templates": (
        f'Sampler: Euler a, CFG scale: 7, {_SIZE}, Model: dream\nTemplate: "a fox"\n'
        "Negative Template: blurry"
    ),
}
_KIN: Final = {"forge": "Forge", "sdnext": "SD.Next"}


def a1111() -> Iterator[Sample]:
    ways: dict[str, Callable[[str], bytes]] = {
        "png": lambda text: at.png({"parameters": text}),
        "png-zip": lambda text: at.png({"parameters": text}, compressed=True),
        "jpeg": lambda text: at.with_exif("JPEG", at.commented(text)),
        "webp": lambda text: at.with_exif("WEBP", at.commented(text)),
        "avif": lambda text: at.with_exif("AVIF", at.commented(text)),
        "ascii": lambda text: at.with_exif("JPEG", at.commented(text, "ascii")),
        "undefined": lambda text: at.with_exif("WEBP", at.commented(text, "undefined", "<")),
        "jxl": lambda text: at.jxl(b"Exif", bytes(4) + at.commented(text)),
    }
    cycle = itertools.cycle(ways.items())
    for (version, end), case in itertools.product(_ENDS.items(), list(cases())):
        prompt, negative, seed = case
        way, made = next(cycle)
        said = f"\nNegative prompt: {negative}" if negative else ""
        text = f"{prompt}{said}\nSteps: 20, {end.format(seed=seed)}"
        tool = _KIN.get(version, "A1111")
        facts = _facts(tool, prompt, negative or None, seed, steps=20, width=512, height=768)
        yield Sample(f"{version}-{way}", made(text), facts)


# ComfyUI


def comfyui() -> Iterator[Sample]:
    for (called, made), case in itertools.product(GRAPHS.items(), list(cases(6))):
        prompt, negative, seed = case
        graph = json.dumps(made(prompt, negative, seed))
        facts = _facts("ComfyUI", prompt, negative, seed)
        facts["negative_prompt"] = {"flux": None, "negative_of_zeros": ""}.get(called, negative)
        workflow = json.dumps({"nodes": [], "links": [], "version": 0.4})
        yield Sample(f"comfyui-{called}", at.png({"prompt": graph, "workflow": workflow}), facts)
    for prompt, negative, seed in cases(8):
        graph = json.dumps(basic(prompt, negative, seed))
        facts = _facts(
            "ComfyUI", prompt, negative, seed, model="sd_xl_base_1.0.safetensors", loras=[],
            sampler="dpmpp_2m", scheduler="karras", steps=20, cfg_scale=7.5, width=1024, height=768,
        )  # fmt: skip
        changing = graph.replace('"_meta"', '"is_changed": [NaN], "_meta"')
        yield Sample("comfyui-nan", at.png({"prompt": changing}), facts)
        said = {
            0x0110: (at.ASCII, b"prompt:" + graph.encode() + b"\0"),
            0x010F: (at.ASCII, b'workflow:{"nodes": []}\0'),
        }
        yield Sample("comfyui-webp", at.with_exif("WEBP", at.tiff(said, {}, "<")), facts)
        both = json.dumps({"prompt": json.loads(graph), "workflow": {"nodes": []}})
        yield Sample("comfyui-comment", at.with_exif("AVIF", at.commented(both)), facts)
        chunk = at.chunk(b"comf", b"prompt\0" + graph.encode())
        yield Sample("comfyui-apng", at.png_with(chunk, behind=True), facts)


# The others


def invokeai() -> Iterator[Sample]:
    for prompt, negative, seed in cases(8):
        facts = _facts("InvokeAI", prompt, negative, seed, steps=30, cfg_scale=7.5, width=512)
        common = {
            "positive_prompt": prompt, "negative_prompt": negative, "width": 512, "height": 768,
            "seed": seed, "cfg_scale": 7.5, "steps": 30, "scheduler": "dpmpp_2m_sde_k",
            "rand_device": "cpu", "generation_mode": "txt2img", "controlnets": [],
        }  # fmt: skip
        newer = {
            **common, "app_version": "5.4.2",
            "model": {"key": "k", "hash": "blake3:0", "name": "Juggernaut", "base": "sdxl"},
            "loras": [{"model": {"key": "l", "name": "ink"}, "weight": 0.75}],
        }  # fmt: skip
        older = {
            **common, "app_version": "3.3.0post3", "model": {"model_name": "Juggernaut"},
            "loras": [{"lora": {"model_name": "ink", "base_model": "sdxl"}, "weight": 0.75}],
        }  # fmt: skip
        more = {"model": "Juggernaut", "loras": [{"name": "ink", "weight": 0.75}]}
        for version, given in (("5", newer), ("3", older)):
            data = at.png({"invokeai_metadata": json.dumps(given)})
            yield Sample(f"invokeai-{version}", data, {**facts, **more})
    plain = [case for case in cases() if "[" not in case[0] and '"' not in case[0]]
    for prompt, negative, seed in plain[:6]:
        said = f"{prompt} [{negative}]" if negative else prompt
        facts = _facts("InvokeAI", prompt, negative or None, seed, steps=50, sampler="k_lms")
        image = {"prompt": [{"prompt": said, "weight": 1.0}], "steps": 50, "cfg_scale": 7.5,
                 "seed": seed, "sampler": "k_lms", "width": 512, "height": 512}  # fmt: skip
        given = {"model": "stable diffusion", "model_weights": "sd-1.5", "image": image}
        dream = f'"{said}" -s 50 -S {seed} -W 512 -H 512 -C 7.5 -A k_lms'
        texts = {"sd-metadata": json.dumps(given), "Dream": dream}
        yield Sample("invokeai-2", at.png(texts), {**facts, "model": "sd-1.5"})
        yield Sample("invokeai-1", at.png({"Dream": dream}), facts)


def fooocus() -> Iterator[Sample]:
    for prompt, negative, seed in cases(8):
        facts = _facts("Fooocus", prompt, negative, seed, steps=30, width=1152, height=896)
        given = {
            "prompt": prompt, "negative_prompt": negative, "full_prompt": [prompt, "cinematic"],
            "seed": str(seed), "steps": 30, "guidance_scale": 4.0, "resolution": "(1152, 896)",
            "base_model": "juggernautXL_v8", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras",
            "loras": [["ink", 0.5, "abc"]], "lora_combined_1": "ink : 0.5",
            "metadata_scheme": "fooocus", "version": "Fooocus v2.5.5",
        }  # fmt: skip
        more = {"model": "juggernautXL_v8", "loras": [{"name": "ink", "weight": 0.5}]}
        said = json.dumps(given)
        png = at.png({"parameters": said, "fooocus_scheme": "fooocus"})
        yield Sample("fooocus-png", png, {**facts, **more})
        exif = at.tiff(
            {0x9286: (at.ASCII, said.encode() + b"\0"), 0x0131: (at.ASCII, b"Fooocus v2.5.5\0")},
            {}, "<",
        )  # fmt: skip
        yield Sample("fooocus-jpeg", at.with_exif("JPEG", exif), {**facts, **more})
        quoted = json.dumps(prompt, ensure_ascii=False)
        unwanted = json.dumps(negative, ensure_ascii=False)
        text = (
            f"{prompt}, cinematic still\nNegative prompt: anime, {negative}\nSteps: 30, Sampler: "
            f"DPM++ 2M SDE Karras, Seed: {seed}, Size: 1152x896, CFG scale: 4, Model: jugger, "
            f"Raw prompt: {quoted}, Raw negative prompt: {unwanted}, Lora weights: "
            '"ink: 0.5, fog: 0.25", Version: Fooocus v2.5.5'
        )
        loras = [{"name": "ink", "weight": 0.5}, {"name": "fog", "weight": 0.25}]
        scheme = {"parameters": text, "fooocus_scheme": "a1111"}
        yield Sample("fooocus-a1111", at.png(scheme), {**facts, "loras": loras})
        older = {**given, "width": 1152, "height": 896, "cfg": 4.0, "software": "Fooocus 1.0.67"}
        del older["resolution"]
        yield Sample("fooocus-1", at.png({"Comment": json.dumps(older)}), facts)
        yield Sample("fooocus-1-jpeg", at.jpeg_comment(json.dumps(older)), facts)


def swarmui() -> Iterator[Sample]:
    for prompt, negative, seed in cases(8):
        facts = _facts("SwarmUI", prompt, negative, seed, steps=20, cfg_scale=7.0, width=1024)
        given = {
            "prompt": prompt, "negativeprompt": negative, "model": "xl/sd_xl_base_1.0",
            "seed": seed, "steps": 20, "cfgscale": 7.0, "width": 1024, "height": 1024,
            "sampler": "euler", "scheduler": "karras", "swarm_version": "0.9.3.1",
        }  # fmt: skip
        newer = {**given, "loras": ["ink"], "loraweights": ["0.8"]}
        text = json.dumps({"sui_image_params": newer, "sui_extra_data": {"date": "2025-01-01"}},
                          indent=2, ensure_ascii=False)  # fmt: skip
        more = {"loras": [{"name": "ink", "weight": 0.8}], "model": "xl/sd_xl_base_1.0"}
        yield Sample("swarmui-png", at.png_itxt("parameters", text), {**facts, **more})
        jpeg = at.with_exif("JPEG", at.commented(text, "little", "<"))
        yield Sample("swarmui-jpeg", jpeg, {**facts, **more})
        strings = {name: str(value) for name, value in given.items()} | {"loras": "ink"}
        legacy = json.dumps({"sui_image_params": strings}).encode() + b"\0"
        exif = at.tiff({0x0110: (at.ASCII, legacy)}, {}, "<")
        yield Sample("swarmui-0.5", at.with_exif("PNG", exif), facts)


def novelai() -> Iterator[Sample]:
    for prompt, negative, seed in cases(8):
        facts = _facts("NovelAI", prompt, negative, seed, steps=28, cfg_scale=5.0, width=832)
        comment: dict[str, Any] = {
            "prompt": prompt, "steps": 28, "height": 1216, "width": 832, "scale": 5.0, "seed": seed,
            "noise_schedule": "karras", "sampler": "k_euler_ancestral", "uc": negative,
            "request_type": "PromptGenerateRequest", "signed_hash": "x",
        }  # fmt: skip
        texts = {"Title": "AI generated image", "Description": prompt, "Software": "NovelAI",
                 "Source": "Stable Diffusion XL 9CC2F394", "Generation time": "4.2"}  # fmt: skip
        more = {"model": texts["Source"], "sampler": "k_euler_ancestral"}
        third = {**texts, "Comment": json.dumps(comment)}
        yield Sample("novelai-3", at.png(third), {**facts, **more})
        caption = {"base_caption": prompt, "char_captions": []}
        comment["v4_prompt"] = {"caption": caption, "use_coords": False}
        fourth = {**texts, "Comment": json.dumps(comment)}
        yield Sample("novelai-4", at.png(fourth), {**facts, **more})
        webp = at.with_exif("WEBP", at.commented(json.dumps(fourth)))
        yield Sample("novelai-webp", webp, {**facts, **more})


def drawthings() -> Iterator[Sample]:
    for prompt, negative, seed in cases(8):
        facts = _facts("DrawThings", prompt, negative, seed, steps=8, width=640, height=512)
        given = {
            "c": prompt, "uc": negative, "model": "flux_1_q5p.ckpt", "sampler": "Euler A",
            "scale": 4.5, "seed": seed, "size": "640x512", "steps": 8, "strength": 1,
            "lora": [{"model": "ink.ckpt", "weight": 0.6}], "v2": {"loras": []},
        }  # fmt: skip
        packet = _packet(json.dumps(given, ensure_ascii=False), "Draw Things")
        more = {"model": "flux_1_q5p.ckpt", "loras": [{"name": "ink.ckpt", "weight": 0.6}]}
        for form in ("PNG", "JPEG"):
            yield Sample(f"drawthings-{form}", at.with_xmp(form, packet), {**facts, **more})
        text = (
            f"{prompt}\n-{negative}\nSteps: 8, Sampler: Euler A, Guidance Scale: 4.5, Seed: {seed},"
            " Size: 640x512, Model: flux_1_q5p.ckpt, Strength: 1.0"
        )
        if negative:
            yield Sample(
                "drawthings-text", at.with_xmp("PNG", _packet(None, "Draw Things", text)), facts
            )


def _packet(comment: str | None, tool: str, description: str = "") -> str:
    def property_(name: str, text: str) -> str:
        written = escape(text).replace("\n", "&#xA;")
        item = f'<rdf:li xml:lang="x-default">{written}</rdf:li>'
        return f"<{name}><rdf:Alt>{item}</rdf:Alt></{name}>"

    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 6.0.0"><rdf:RDF xmlns:rdf='
        '"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc='
        '"http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:exif='
        f'"http://ns.adobe.com/exif/1.0/">{property_("dc:description", description)}'
        f"<xmp:CreatorTool>{tool}</xmp:CreatorTool>"
        f"{property_('exif:UserComment', comment) if comment is not None else ''}"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def corpus() -> list[Sample]:
    tools = (a1111, comfyui, invokeai, fooocus, swarmui, novelai, drawthings)
    return [sample for tool in tools for sample in tool()]
