"""Where formats keep text: a file for each, which gathers it by name."""
