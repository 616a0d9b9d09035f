"""Parsers for the metadata that image-generation programs embed: one module per program.

Each `read(texts, budget)` returns None if the texts are not from this program. It raises
`Unreadable` if they are but are malformed, and `TooMuchWork` if the budget is exceeded.
"""
