"""Simple requests, answered where their bytes arrive. See docs/adr/0009-the-fast-path.md."""
