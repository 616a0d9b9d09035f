"""Parsers of file formats: pure functions of `FileParts`, whose budget limits their work."""
