"""Faults of the search: words, rows, index, and the operation."""

from typing import Final

from mutations.fault import Fault

ROWS: Final = "tests/media/test_search_rows.py"
INDEX: Final = "tests/media/test_index.py"
SEARCH: Final = "tests/acceptance/test_search.py"

FAULTS: Final = (
    Fault(
        "search, words: accents count",
        "media/index/words.py",
        '"".join(one for one in spread if not unicodedata.combining(one))',
        '"".join(spread)',
        (ROWS, "-k", "accents"),
    ),
    Fault(
        "search, words: a name is found by its first word alone",
        "media/index/words.py",
        "for at in range(len(words))",
        "for at in range(1)",
        (ROWS, "-k", "length"),
    ),
    Fault(
        "search, rows: a late removal takes a later save",
        "media/rows/search.py",
        "(certain or known[key].saved_ns <= at_ns)",
        "known[key].saved_ns",
        (ROWS, "-k", "removal"),
    ),
    Fault(
        "search, rows: an older save that comes late replaces a newer one",
        "media/rows/search.py",
        '(key not in known or known[key].saved_ns <= image["saved_ns"])',
        "(key not in known or known[key].saved_ns)",
        (ROWS, "-k", "later_save"),
    ),
    Fault(
        "search, rows: what is behind a prefix is found, too",
        "media/rows/search.py",
        "asked.where(key >= prefix, key < prefix + BEHIND_ALL)",
        "asked.where(key >= prefix)",
        (ROWS, "-k", "filters"),
    ),
    Fault(
        "search, rows: a page begins with the last image of the one before",
        "media/rows/search.py",
        "yield order < query.after if query.descending",
        "yield order <= query.after if query.descending",
        (ROWS, "-k", "page_by_page"),
    ),
    Fault(
        "search, rows: the mark of an older save is told",
        "media/rows/search.py",
        "            if row.etag == etags[row.storage_key]\n",
        "",
        (ROWS, "tests/acceptance/test_entries.py", "-k", "ai_made or mark"),
    ),
    Fault(
        "search, rows: the words of an image stay behind it",
        "media/rows/search.py",
        "            connection.execute(sa.delete(full_text).where(full_text.c.rowid.in_(gone)))\n",
        "            pass\n",
        (ROWS, INDEX),
    ),
    Fault(
        "search, rows: images saved at one moment replace each other",
        "media/rows/search.py",
        "if id_ in taken or last[id_] != at]\n",
        "if last[id_] != at]\n",
        (ROWS, "-k", "one_moment or newest"),
    ),
    Fault(
        "search, words: a prompt is looked for in paths, too",
        "media/rows/full_text.py",
        'yield _Way(words, is_prefix, ("prompt",))',
        "yield _Way(words, is_prefix, _COLUMNS)",
        (ROWS, "-k", "words_and_phrases or filters"),
    ),
    Fault(
        "search, words: a phrase begins in a prompt and ends in a path",
        "media/rows/full_text.py",
        "        position += _GAP\n",
        "",
        (ROWS, "-k", "phrases"),
    ),
    Fault(
        "search, words: who may not see the library searches its texts",
        "media/rows/full_text.py",
        "        if query.sees_library:\n",
        "        if query:\n",
        (ROWS, "-k", "captions"),
    ),
    Fault(
        "search, words: what the library says of an older save is found",
        "media/rows/library_words.py",
        'said.get((image["storage_key"], image["save_id"]))',
        "next(iter(said.values()), None)",
        (ROWS, "-k", "captions"),
    ),
    Fault(
        "search, rows: tags that are taken away are found",
        "media/rows/tags.py",
        "            await connection.run_sync(reword, [key])\n",
        "",
        (ROWS, "-k", "captions"),
    ),
    Fault(
        "index: a copy has the facts of what was saved over its source",
        "media/index/filling.py",
        "                if source is not None and source.image.save_id == origin.save_id:\n",
        "                if source is not None:\n",
        (INDEX, "-k", "copy"),
    ),
    Fault(
        "index: what could not be written replaces what came since",
        "media/index/filling.py",
        "        if change.key not in self._noted:\n",
        "        if change.key:\n",
        (INDEX, "-k", "batch"),
    ),
    Fault(
        "index: the row of a save that is written late stays",
        "media/index/filling.py",
        "if one.at_ns > due] + removed\n",
        "if one.at_ns > due]\n",
        (INDEX, "-k", "before_it_is_written"),
    ),
    Fault(
        "index: manifests are images",
        "media/index/filling.py",
        "        if not self._is_running or key.is_manifest:\n",
        "        if not self._is_running:\n",
        (INDEX, "-k", "manifest"),
    ),
    Fault(
        "index: a change that could not be noted is not healed",
        "media/index/filling.py",
        "        if self.lost:\n"
        "            self.lost = 0\n"
        "            from stillroom.media.rows.scans import INDEX\n"
        "\n"
        "            await (await self.database.rows()).scans.restart(INDEX, at=now())\n",
        "        self.lost = 0\n",
        (INDEX, "-k", "too_much"),
    ),
    Fault(
        "index: healing looks at compute results alone",
        "media/index/healing.py",
        "                if next_after is None and tree != TREES[-1]:\n"
        "                    next_after = MEDIA_PREFIX\n",
        "",
        (INDEX, "-k", "healing"),
    ),
    Fault(
        "index: healing keeps the rows of what is gone",
        "media/index/comparing.py",
        "self._look_at(known.keys() - there.keys())",
        "self._look_at(known.keys() & set())",
        (INDEX, "-k", "healing"),
    ),
    Fault(
        "index: healing leaves out what was saved over",
        "media/index/comparing.py",
        "return image.key.text in known and known[image.key.text].is_of(image)",
        "return image.key.text in known",
        (INDEX, "-k", "healing"),
    ),
    Fault(
        "search: a confined token finds what others have",
        "api/search.py",
        "prefix=KeyPrefix.of_images(visible)",
        "prefix=KeyPrefix.of_images(asked.prefix)",
        (SEARCH, "-k", "confined"),
    ),
    Fault(
        "search: a cursor that no row can have reaches the database",
        "http/search_query.py",
        "    if by_path or not _POSITION.fullmatch(text) or int(text) > _MAX_POSITION:\n",
        "    if by_path or not _POSITION.fullmatch(text):\n",
        (SEARCH, "-k", "bad_value"),
    ),
)
