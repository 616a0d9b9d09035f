"""Headers of images: what they are, how large, and in which colours."""
