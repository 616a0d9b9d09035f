"""Runs: folders whose images are published together, with a manifest, and deleted together."""
