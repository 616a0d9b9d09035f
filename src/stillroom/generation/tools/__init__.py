"""Parsers for the metadata that image-generation programs embed: one module per program.

`read(texts, budget)` parses the texts in a file. It returns None if another program wrote them, and
raises `Unreadable` if they are malformed.
"""
