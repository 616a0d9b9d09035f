"""HTTP/1.1 connections, and optional parts that make responses faster: caches and sendfile."""
