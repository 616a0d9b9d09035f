"""Parsers for the metadata that image-generation programs embed: one module per program.

`read(texts, budget)` gets the texts embedded in a file, by name. It returns None if they are not
from this program, and raises `Unreadable` if they are malformed.
"""
