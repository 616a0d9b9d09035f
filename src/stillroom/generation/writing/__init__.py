"""Functions that embed metadata in encoded images without changing the pixels."""
