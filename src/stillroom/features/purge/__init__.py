"""Purges: the CDN drops its copies of deleted images."""
