"""ComfyUI nodes: Save Image to Stillroom, Load Image from Stillroom. See docs/comfyui.md.

This folder goes into ComfyUI's `custom_nodes`; ComfyUI imports it and reads the two mappings below.
"""

try:
    import stillroom.client as _sdk
except ModuleNotFoundError as missing:
    raise ImportError(
        "the Stillroom nodes need Stillroom's SDK: install it with the pip of the Python that "
        "runs ComfyUI, as docs/comfyui.md says"
    ) from missing

from .load import LoadImageFromStillroom
from .save import SaveImageToStillroom

NODE_CLASS_MAPPINGS = {
    "StillroomSaveImage": SaveImageToStillroom,
    "StillroomLoadImage": LoadImageFromStillroom,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "StillroomSaveImage": "Save Image to Stillroom",
    "StillroomLoadImage": "Load Image from Stillroom",
}

WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]

del _sdk
