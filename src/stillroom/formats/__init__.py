"""Parsers of file formats: one walker for each container, and the size and colours in headers.

Pure functions of `FileParts`, whose `WorkBudget` limits the work that one file may cause.
"""
