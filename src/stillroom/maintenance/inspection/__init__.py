"""Maintenance interface of a store, in addition to the storage port."""
