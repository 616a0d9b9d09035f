"""Retention: rules that let compute results and published runs expire."""
