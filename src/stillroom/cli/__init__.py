"""Command-line interface: the `stillroom` commands."""
