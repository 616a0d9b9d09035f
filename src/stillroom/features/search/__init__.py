"""Search index: metadata of each stored image, in the library's database.

The index caches metadata that is parsed from the image files (docs/adr/0030). `filling` writes
changes, `healing` compares the index with the storage, and `features/search/rows.py` runs the SQL.
"""
