"""What programs write: a file for each, with a pure function from texts to facts.

`read(texts, budget)` returns None where the texts are not this tool's. It raises `Unreadable` where
they seem to be, and cannot be read, and `TooMuchWork` where that would take too long.
"""
