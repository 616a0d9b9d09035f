"""Parsers for the metadata that image-generation programs embed: one module per program.

Each module has a function `read(texts, budget)` for the texts embedded in a file, by name. The
function returns None if the texts are not from this program. It raises `Unreadable` if they are
malformed, and `TooMuchWork` if parsing takes more work than `budget` allows.
"""
