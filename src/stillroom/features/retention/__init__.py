"""Retention rules, which define when images and published runs expire."""
