"""Readers of tool metadata: one module per program, each a pure function from texts to facts.

`read(texts, budget)` returns None if the texts are not this tool's. It raises `Unreadable` if they
have its marks but are malformed, and `TooMuchWork` if the budget is spent.
"""
