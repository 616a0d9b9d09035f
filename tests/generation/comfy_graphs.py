"""Graphs of ComfyUI in the form in which SaveImage writes them, each another way to a picture."""

from collections.abc import Callable
from typing import Any, Final

Node = dict[str, Any]


def node(kind: str, **inputs: Any) -> Node:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def sampler(**changed: Any) -> Node:
    given = {
        "seed": 1, "steps": 20, "cfg": 7.5, "sampler_name": "dpmpp_2m", "scheduler": "karras",
        "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
        "latent_image": ["5", 0],
    }  # fmt: skip
    return node("KSampler", **{**given, **changed})


def basic(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    return {
        "3": sampler(seed=seed),
        "4": node("CheckpointLoaderSimple", ckpt_name="sd_xl_base_1.0.safetensors"),
        "5": node("EmptyLatentImage", width=1024, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text=prompt, clip=["4", 1]),
        "7": node("CLIPTextEncode", text=negative, clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
    }


def with_loras(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = basic(prompt, negative, seed)
    graph["10"] = node("LoraLoader", lora_name="ink.safetensors", strength_model=0.8,
                       strength_clip=1.0, model=["4", 0], clip=["4", 1])  # fmt: skip
    graph["11"] = node("LoraLoaderModelOnly", lora_name="fog.safetensors", strength_model=0.5,
                       model=["10", 0])  # fmt: skip
    graph["3"]["inputs"]["model"] = ["11", 0]
    return graph


def sdxl_encoders(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = basic(prompt, negative, seed)
    for number, text in (("6", prompt), ("7", negative)):
        graph[number] = node("CLIPTextEncodeSDXL", width=1024, height=1024, crop_w=0, crop_h=0,
                             target_width=1024, target_height=1024, text_g=text, text_l=text,
                             clip=["4", 1])  # fmt: skip
    return graph


def flux(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    del negative  # it has none
    return {
        "6": node("CLIPTextEncode", text=prompt, clip=["11", 0]),
        "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
        "9": node("SaveImage", filename_prefix="flux", images=["8", 0]),
        "10": node("VAELoader", vae_name="ae.safetensors"),
        "11": node("DualCLIPLoader", clip_name1="t5xxl.safetensors", clip_name2="clip_l.sft"),
        "12": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        "13": node("SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], sampler=["16", 0],
                   sigmas=["17", 0], latent_image=["27", 0]),
        "16": node("KSamplerSelect", sampler_name="euler"),
        "17": node("BasicScheduler", scheduler="simple", steps=20, denoise=1, model=["30", 0]),
        "22": node("BasicGuider", model=["30", 0], conditioning=["26", 0]),
        "25": node("RandomNoise", noise_seed=seed),
        "26": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
        "27": node("EmptySD3LatentImage", width=1024, height=768, batch_size=1),
        "30": node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=1024, height=768,
                   model=["12", 0]),
    }  # fmt: skip


def two_samplers(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    """The fix for large pictures: a second sampler goes on from the enlarged latent."""
    graph = basic(prompt, negative, seed)
    graph["12"] = sampler(seed=987654321, denoise=0.5, latent_image=["5", 0])
    graph["13"] = node("LatentUpscaleBy", upscale_method="nearest-exact", scale_by=1.5,
                       samples=["12", 0])  # fmt: skip
    graph["3"]["inputs"]["latent_image"] = ["13", 0]
    return graph


def base_and_refiner(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    """The refiner makes no noise: the seed is the base's, the prompt that of its own encoder."""
    graph = basic(prompt, negative, seed)
    common = {"steps": 25, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal"}
    graph["20"] = node("KSamplerAdvanced", add_noise="enable", noise_seed=seed, **common,
                       model=["4", 0], positive=["6", 0], negative=["7", 0],
                       latent_image=["5", 0], start_at_step=0, end_at_step=20,
                       return_with_leftover_noise="enable")  # fmt: skip
    graph["3"] = node("KSamplerAdvanced", add_noise="disable", noise_seed=0, **common,
                      model=["4", 0], positive=["6", 0], negative=["7", 0],
                      latent_image=["20", 0], start_at_step=20, end_at_step=10000,
                      return_with_leftover_noise="disable")  # fmt: skip
    return graph


def linked_values(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    """Seed and texts come out of nodes of their own, through a reroute."""
    graph = basic(prompt, negative, seed)
    graph["30"] = node("Seed (rgthree)", seed=seed)
    graph["31"] = node("PrimitiveStringMultiline", value=prompt)
    graph["32"] = node("Reroute", **{"": ["31", 0]})
    graph["33"] = node("String Literal", string=negative)
    graph["3"]["inputs"]["seed"] = ["30", 0]
    graph["6"]["inputs"]["text"] = ["32", 0]
    graph["7"]["inputs"]["text"] = ["33", 0]
    return graph


def joined_text(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = basic(prompt, negative, seed)
    half = len(prompt) // 2
    graph["30"] = node("StringConcatenate", string_a=prompt[:half], string_b=prompt[half:],
                       delimiter="")  # fmt: skip
    graph["6"]["inputs"]["text"] = ["30", 0]
    return graph


def control_net(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = basic(prompt, negative, seed)
    graph["40"] = node("ControlNetApplyAdvanced", strength=0.7, start_percent=0, end_percent=1,
                       positive=["6", 0], negative=["7", 0], control_net=["41", 0],
                       image=["42", 0])  # fmt: skip
    graph["41"] = node("ControlNetLoader", control_net_name="canny.safetensors")
    graph["42"] = node("LoadImage", image="pose.png")
    graph["3"]["inputs"] |= {"positive": ["40", 0], "negative": ["40", 1]}
    return graph


def efficient(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    return {
        "1": node("Efficient Loader", ckpt_name="dream.safetensors", vae_name="Baked VAE",
                  clip_skip=-1, lora_name="None", lora_model_strength=1, lora_clip_strength=1,
                  positive=prompt, negative=negative, empty_latent_width=512,
                  empty_latent_height=512, batch_size=1),
        "2": node("KSampler (Efficient)", seed=seed, steps=20, cfg=7, sampler_name="euler",
                  scheduler="normal", denoise=1, preview_method="auto", vae_decode="true",
                  model=["1", 0], positive=["1", 1], negative=["1", 2], latent_image=["1", 3]),
        "3": node("Image Save", images=["2", 5], filename_prefix="x"),
    }  # fmt: skip


def in_subgraph(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    """The editor writes what is in a subgraph with the subgraph's number in front."""
    inner = {"3", "5", "6", "7"}
    graph = basic(prompt, negative, seed)

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [f"57:{value[0]}" if value[0] in inner else value[0], value[1]]
        return value

    return {
        f"57:{number}" if number in inner else number: {
            **one, "inputs": {name: renamed(value) for name, value in one["inputs"].items()}
        }
        for number, one in graph.items()
    }  # fmt: skip


def shown_and_saved(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    """A preview of another sampler's picture stands beside the saver."""
    graph = basic(prompt, negative, seed)
    graph["50"] = sampler(seed=11, positive=["7", 0])
    graph["51"] = node("VAEDecode", samples=["50", 0], vae=["4", 2])
    graph["52"] = node("PreviewImage", images=["51", 0])
    return graph


def saved_by_another_node(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    """Its name says nothing, and a preview of another sampler's picture stands beside it."""
    graph = shown_and_saved(prompt, negative, seed)
    graph["9"]["class_type"] = "PromptKeeper"
    return graph


def negative_of_zeros(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    """What some models take for no negative prompt at all."""
    del negative
    graph = basic(prompt, "", seed)
    graph["7"] = node("ConditioningZeroOut", conditioning=["6", 0])
    return graph


def power_loras(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = basic(prompt, negative, seed)
    graph["10"] = node(
        "Power Lora Loader (rgthree)",
        PowerLoraLoaderHeaderWidget={"type": "PowerLoraLoaderHeaderWidget"},
        lora_1={"on": True, "lora": "ink.safetensors", "strength": 0.8},
        lora_2={"on": False, "lora": "off.safetensors", "strength": 1},
        model=["4", 0], clip=["4", 1],
    )  # fmt: skip
    graph["3"]["inputs"]["model"] = ["10", 0]
    return graph


Made = Callable[[str, str, int], dict[str, Node]]

GRAPHS: Final[dict[str, Made]] = {
    made.__name__: made
    for made in (
        basic, with_loras, sdxl_encoders, flux, two_samplers, base_and_refiner, linked_values,
        joined_text, control_net, efficient, in_subgraph, shown_and_saved, power_loras,
        saved_by_another_node, negative_of_zeros,
    )
}  # fmt: skip


def conditionings_joined(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = basic(prompt, negative, seed)
    graph["60"] = node("CLIPTextEncode", text="another", clip=["4", 1])
    graph["61"] = node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["60", 0])
    graph["3"]["inputs"]["positive"] = ["61", 0]
    return graph


def two_savers(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = shown_and_saved(prompt, negative, seed)
    graph["52"] = node("SaveImage", images=["51", 0], filename_prefix="other")
    return graph


def drawn_text(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    """What is encoded comes out of a node that draws it at random."""
    graph = basic(prompt, negative, seed)
    graph["60"] = node("DPRandomGenerator", text="{a|b} cat", seed=3, autorefresh="Yes")
    graph["6"]["inputs"]["text"] = ["60", 0]
    return graph


def side_by_side(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = shown_and_saved(prompt, negative, seed)
    graph["53"] = node("ImageBatch", image1=["8", 0], image2=["51", 0])
    graph["9"]["inputs"]["images"] = ["53", 0]
    return graph


def merged_models(prompt: str, negative: str, seed: int) -> dict[str, Node]:
    graph = basic(prompt, negative, seed)
    graph["70"] = node("CheckpointLoaderSimple", ckpt_name="other.safetensors")
    graph["71"] = node("ModelMergeSimple", model1=["4", 0], model2=["70", 0], ratio=0.5)
    graph["3"]["inputs"]["model"] = ["71", 0]
    return graph


UNTOLD: Final[dict[Made, tuple[str, ...]]] = {
    conditionings_joined: ("prompt",),
    two_savers: ("prompt", "seed"),
    drawn_text: ("prompt",),
    side_by_side: ("prompt", "seed"),
    merged_models: ("model", "loras"),
}
"""Graphs in which these facts are ambiguous."""
