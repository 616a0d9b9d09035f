"""Lineage of images: the images from which an image was made, and those made from it."""
