"""Events: a feed of what happened to images, runs and media resources."""
