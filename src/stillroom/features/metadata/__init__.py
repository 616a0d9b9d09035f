"""Metadata of generated images: prompt, model, seed and AI mark, read from the file."""
