"""Metrics, request ids and log formats: what operators see of every part."""
