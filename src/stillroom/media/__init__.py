"""The media library: rows about images that are worth keeping."""
