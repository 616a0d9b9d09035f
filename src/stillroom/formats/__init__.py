"""Parsers of file formats, which read the structure, size and colour profile of a file.

The parsers are pure functions of `FileParts`, whose `WorkBudget` limits the work that one file may
cause.
"""
