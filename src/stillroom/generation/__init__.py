"""Generation metadata in images: prompt, model, seed and other parameters ("facts").

Pure functions on bytes, for the server and the SDK: `reading` parses the metadata and `writing`
embeds it. `carriers` has one module per file format, `tools` one per program that writes metadata.
The input is untrusted: reading, decompression and parsing are bounded, and malformed metadata is
ignored instead of raising an error.
"""
