"""Runs: folders whose images are published together, by a manifest, and deleted together."""
