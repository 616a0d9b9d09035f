"""Maintenance of stores: verification, migration and orphan scans."""
