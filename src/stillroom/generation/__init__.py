"""Generation parameters in images (prompt, model, seed and others), as pure functions on bytes.

`reading` parses the metadata in a file, and `writing` embeds metadata. `carriers` has a module per
file format, and `tools` one per program that writes metadata. All input is untrusted: the work is
limited, and malformed metadata is ignored without an error.
"""
