"""Faster ways to the same responses: HTTP/1.1 connections, fast path, caches, sendfile."""
