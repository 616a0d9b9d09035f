"""Generation parameters in images: prompt, model, seed and others.

Pure functions on bytes, for the server and the SDK. The module `reading` parses the metadata in a
file, and the package `writing` embeds metadata in a file. `carriers` has one module per file
format, and `tools` one per program that writes metadata.

All input is untrusted. Limits apply to reading, decompression and parsing, and malformed metadata
is ignored instead of raising an error.
"""
