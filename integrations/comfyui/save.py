"""The node *Save Image to Stillroom*."""

import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from stillroom.client import ImageStore, SavedImage
from stillroom.errors import InvalidPath, PreconditionFailed, StillroomError
from stillroom.generation.writing.mark import with_ai_mark

from .connection import NOT_CONFIGURED, is_configured, store
from .kept import keep, preview
from .names import UnknownPlaceholder, expanded, next_number, run_folder, seed_before
from .pixels import SUFFIXES, Encoding, Tensor, encoded, texts_of

logger = logging.getLogger(__name__)

URLS_VALID_FOR: Final = timedelta(days=1)
_FALLBACK: Final = "stillroom"
"""Where images are kept whose prefix is no path."""
_CLAIMS: Final = 100
"""Numbers tried, while others save below the same prefix at the same time."""


class SaveImageToStillroom:
    """Save all images of a prompt as one run, published when all are there."""

    CATEGORY = "image/stillroom"
    DESCRIPTION = (
        "Saves the images to a Stillroom server as one run, with prompt and workflow in each file."
    )
    FUNCTION = "save"
    OUTPUT_NODE = True
    INPUT_IS_LIST = True  # all images of a prompt in one call, whatever their sizes: one run
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("paths", "urls")
    OUTPUT_IS_LIST = (True, True)
    OUTPUT_TOOLTIPS: ClassVar = (
        "The paths of the images in the store.",
        "URLs that show the images without a token, for a day.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802  (ComfyUI's name)
        """The inputs, as ComfyUI's page shows them."""
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The images to save."}),
                "filename_prefix": (
                    "STRING",
                    {
                        "default": "comfyui/%date%/%seed%",
                        "tooltip": "Where they go; a number follows. %date%, %seed%, %width%, "
                        "%height% and %date:yyyy-MM-dd hh-mm-ss% are replaced.",
                    },
                ),
                "format": (list(SUFFIXES), {"default": "png"}),
                "quality": (
                    "INT",
                    {"default": 90, "min": 1, "max": 100, "tooltip": "Of WebP and JPEG."},
                ),
                "ai_generated": (
                    "BOOLEAN",
                    {"default": True, "tooltip": "Mark the files as made by AI (IPTC)."},
                ),
            },
            "hidden": {
                "prompt": "PROMPT",
                "extra_pnginfo": "EXTRA_PNGINFO",
                "unique_id": "UNIQUE_ID",
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, filename_prefix: object) -> bool | str:  # noqa: N802  (ComfyUI's name)
        """Refuse before anything is computed what could not be saved at the end."""
        given = filename_prefix[0] if isinstance(filename_prefix, list | tuple) else filename_prefix
        if not is_configured():
            return NOT_CONFIGURED
        if given is None:  # linked: known when it is there
            return True
        if not isinstance(given, str):
            return "the prefix is no text"
        try:
            expanded(given, now=datetime.now(UTC).astimezone())
        except (InvalidPath, UnknownPlaceholder) as error:
            return f"{given!r}: {error}"
        return True

    def save(  # noqa: PLR0917  (ComfyUI passes them by name)
        self,
        images: Sequence[Sequence[Tensor]],
        filename_prefix: Sequence[str],
        format: Sequence[str],  # noqa: A002  (what the page calls it)
        quality: Sequence[int],
        ai_generated: Sequence[bool],
        prompt: Sequence[Mapping[str, Any] | None] = (None,),
        extra_pnginfo: Sequence[Mapping[str, Any] | None] = (None,),
        unique_id: Sequence[str] = ("",),
    ) -> dict[str, Any]:
        """Save them; where that fails, keep them in ComfyUI's output folder.

        Raises:
            RuntimeError: it failed; in one sentence why, and where the images are.
        """
        pictures = [picture for batch in images for picture in batch]
        encoding = Encoding(format[0], quality[0])
        texts = {} if _without_metadata() else texts_of(prompt[0], extra_pnginfo[0])
        if not pictures:
            return _answer([], [], encoding.suffix)
        files, prefix = [], _FALLBACK
        try:
            files = _files(pictures, encoding, texts, ai_generated=ai_generated[0])
            prefix = expanded(
                filename_prefix[0],
                now=datetime.now(UTC).astimezone(),
                seed=seed_before(str(unique_id[0]), prompt[0] or {}),
                height=pictures[0].cpu().numpy().shape[0],
                width=pictures[0].cpu().numpy().shape[1],
            )
            saved = _as_run(store(), prefix, files, encoding.suffix)
        except Exception as error:
            if not files:  # a format that cannot take them, such as a WebP of 20,000 pixels
                encoding = Encoding("png", encoding.quality)
                files = _files(pictures, encoding, texts, ai_generated=ai_generated[0])
            names = [_name(prefix, 0, number, encoding.suffix) for number in range(len(files))]
            folder = keep(prefix, dict(zip(names, files, strict=True)))
            raise RuntimeError(
                f"Stillroom did not take the images ({error}); they are kept in {folder}"
            ) from error
        return _answer(saved, files, encoding.suffix)


def _files(
    pictures: Sequence[Tensor], encoding: Encoding, texts: Mapping[str, str], *, ai_generated: bool
) -> list[bytes]:
    files = [encoded(picture, encoding, texts) for picture in pictures]
    return [with_ai_mark(file) for file in files] if ai_generated else files


def _as_run(
    images: ImageStore, prefix: str, files: Sequence[bytes], suffix: str
) -> list[SavedImage]:
    """Save them into the next free folder, and publish it."""
    number = next_number(prefix, images.iter(f"{prefix}_", fold=True))
    for attempt in range(number, number + _CLAIMS):
        run = images.run(run_folder(prefix, attempt), expected=len(files))
        names = [_name(prefix, attempt, one, suffix) for one in range(len(files))]
        try:  # the first image is create-only: it claims the folder
            saved = [run.save(names[0], files[0], if_none_match="*")]
        except PreconditionFailed:
            continue
        saved += [run.save(*pair) for pair in list(zip(names, files, strict=True))[1:]]
        run.publish()
        return saved
    raise PreconditionFailed(f"others save as {prefix} at the same time: give it another prefix")


def _name(prefix: str, number: int, index: int, suffix: str) -> str:
    base = prefix.rpartition("/")[2]
    return f"{base}_{number:05}_{index + 1}{suffix}" if number else f"{base}_{index + 1}{suffix}"


def _answer(saved: Sequence[SavedImage], files: Sequence[bytes], suffix: str) -> dict[str, Any]:
    """What ComfyUI hands to its page, to its API's callers, and to the nodes behind."""
    paths = [one.path for one in saved]
    urls = [_signed(path) for path in paths]
    return {
        "ui": {
            "images": [preview(suffix, file) for file in files],
            "stillroom": [
                {"path": one.path, "url": url, "sha256": one.sha256}
                for one, url in zip(saved, urls, strict=True)
            ],
            "text": [url or path for path, url in zip(paths, urls, strict=True)],
        },
        "result": (paths, urls),
    }


def _signed(path: str) -> str:
    """A URL of a saved image; empty where the token may not have one: it is saved all the same."""
    try:
        return store().signed_url(path, expires_in=URLS_VALID_FOR)
    except StillroomError as error:
        logger.warning("no signed URL of %s: %s", path, error)
        return ""


def _without_metadata() -> bool:
    """Whether ComfyUI was started with `--disable-metadata`."""
    options = getattr(sys.modules.get("comfy.cli_args"), "args", None)
    return bool(getattr(options, "disable_metadata", False))
