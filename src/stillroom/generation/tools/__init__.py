"""What programs write: a file for each, with a pure function from texts to facts.

`read(texts)` answers None where the texts are not this tool's, and raises `Unreadable` where they
seem to be, and cannot be read.
"""
