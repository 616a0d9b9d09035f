"""Parsers of file formats: pure functions whose argument is a `FileParts`."""
