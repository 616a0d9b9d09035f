"""Generation metadata in images: with which prompt, model and seed they were made.

Pure functions on bytes, for the server and the SDK: `reading` finds the facts, `writing` puts them
into a file. `carriers` has a file for each place where formats keep text, `tools` one for each
program that writes it. The bytes come from anywhere: all that is read, inflated and walked has a
bound, and what is malformed gives no facts, never an error.
"""
