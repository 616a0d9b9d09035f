"""Command-line interface: the command `stillroom` and its subcommands."""
