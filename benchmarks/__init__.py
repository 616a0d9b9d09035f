"""Stillroom and its peers side by side, in one run. `make bench`; docs/performance.md explains."""
