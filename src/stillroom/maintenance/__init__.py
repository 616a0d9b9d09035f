"""Maintenance of stores: verification, migration, and scans for orphaned files."""
