"""Generation metadata in images: prompt, model, seed and other facts of their origin.

Pure functions on bytes, for the server and the SDK: `reading` finds the facts, `writing` embeds
them. `carriers` has one module per file format, `tools` one per program that writes metadata. The
input is untrusted: everything that is read, inflated and walked is bounded, and malformed metadata
yields no facts instead of an error.
"""
