"""HTTP semantics as pure functions, independent of frameworks and sockets.

Both request paths use them to parse requests and to compute status codes, headers and ranges.
"""
