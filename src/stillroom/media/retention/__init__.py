"""Retention rules: they define when compute results and published runs expire."""
