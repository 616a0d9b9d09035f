"""The search index: what is known of each stored image, in the library's database.

A cache of facts that the bytes have (docs/adr/0030): `filling` writes what changes, `healing`
compares it with what is stored, and `media/rows/search.py` has its statements.
"""
