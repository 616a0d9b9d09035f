"""Faster handling of requests: HTTP/1.1 connections, fast path, caches and sendfile."""
