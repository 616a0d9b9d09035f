"""The rules of HTTP as pure functions, for both request paths.

Nothing here knows a framework or a socket: facts go in, statuses, headers and
slices come out.
"""
