"""Search index: facts about each stored image, in the library's database.

It is a cache of facts from the images' bytes (docs/adr/0030). `filling` writes changes, `healing`
compares it with the storage, and `media/rows/search.py` has the statements.
"""
