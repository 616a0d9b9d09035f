"""Faults of `media/runs`, `media/retention` and of expiry."""

from typing import Final

from mutations.fault import Fault

DELETION: Final = "tests/media/test_run_deletion.py"
RUNS: Final = "tests/media/test_runs.py"
RETENTION: Final = "tests/media/test_retention.py"
EXPIRY: Final = "tests/media/test_expiry.py"
RULES: Final = "tests/unit/test_retention_file.py"

FAULTS: Final = (
    Fault(
        "runs: a deletion takes what was saved after it was asked for",
        "media/runs/deletion.py",
        "            older = [image for image in images if image.modified_ns <= until_ns]\n",
        "            older = images\n",
        (DELETION, "-k", "asked_for"),
    ),
    Fault(
        "runs: a manifest that is written while its run is deleted stays",
        "media/runs/deletion.py",
        "        await self._delete_manifest(deletion)\n        ended =",
        "        ended =",
        (DELETION, "-k", "written_while"),
    ),
    Fault(
        "runs: a deletion has no shortest grace",
        "media/runs/deletion.py",
        "max(grace, SHORTEST_GRACE)",
        "grace",
        (DELETION, "-k", "minute"),
    ),
    Fault(
        "runs: one with a published run in it is deleted",
        "media/runs/deletion.py",
        "        await self._runs.require_none_inside(folder)\n",
        "",
        (DELETION, "-k", "in_it"),
    ),
    Fault(
        "runs: what the library needs is marked, too",
        "media/rows/run_deletions.py",
        "[image for image in images if image.key not in in_use]",
        "[*images]",
        (DELETION, "-k", "recorded"),
    ),
    Fault(
        "runs: of two deletions the earlier time counts",
        "media/rows/run_deletions.py",
        "sa.case((old > new, old), else_=new)",
        "sa.case((old > new, new), else_=old)",
        (DELETION, "-k", "one_process"),
    ),
    Fault(
        "runs: a listing of a published folder gives it on each page",
        "media/runs/listing.py",
        "                if not start:\n                    yield published\n"
        "                return\n",
        "                yield published\n                return\n",
        (RUNS, "-k", "behind"),
    ),
    Fault(
        "runs: a listing goes on inside of a published run",
        "media/runs/listing.py",
        "            if await self.find_published(inner) is not None:\n"
        "                return levels\n",
        "            await self.find_published(inner)\n",
        (RUNS, "-k", "behind"),
    ),
    Fault(
        "runs: one whose manifest is damaged is open",
        "media/runs/listing.py",
        "        if head is None:\n            saved_s",
        "        if head is None:\n"
        "            return None\n"
        "        if not head:\n"
        "            saved_s",
        (RUNS, "-k", "no_manifest or found or told"),
    ),
    Fault(
        "runs: a torn manifest is a whole one",
        "media/runs/manifest.py",
        '    raise ValueError("the manifest is incomplete")\n',
        "",
        (RUNS,),
    ),
    Fault(
        "retention: a tag keeps nothing",
        "media/retention/rules.py",
        "            if rule.keep or not rule.unless_tagged.isdisjoint(tags):\n",
        "            if rule.keep:\n",
        (RETENTION, "-k", "tagged"),
    ),
    Fault(
        "retention: what lies in two prefixes is looked at twice",
        "media/retention/rules.py",
        "            if not prefixes or not prefix.startswith(prefixes[-1].encode()):\n",
        "            if prefix.decode() not in prefixes:\n",
        (RULES,),
    ),
    Fault(
        "retention: what is kept within a run keeps it not",
        "media/retention/rules.py",
        " or rule.prefix.startswith(inside)\n",
        "\n",
        (RETENTION, "-k", "keeps_the_run"),
    ),
    Fault(
        "retention: what was saved into an old run lately goes with it",
        "media/retention/evaluator.py",
        "max(saved_until_ns, at_ns - rule.after_ns)",
        "max(saved_until_ns, at_ns)",
        (EXPIRY, "-k", "since"),
    ),
    Fault(
        "retention: one run fewer is kept",
        "media/retention/evaluator.py",
        "        if folder in newest:\n            return None\n",
        "",
        (RETENTION, "-k", "last_runs"),
    ),
    Fault(
        "retention: a tag on equal bytes from elsewhere keeps no run",
        "media/retention/evaluator.py",
        "                if await self._read_tags(inside, rule.unless_tagged):\n",
        "                if not inside and await self._read_tags(inside, rule.unless_tagged):\n",
        (RETENTION, "-k", "tagged"),
    ),
    Fault(
        "retention: the sweeper takes images out of published runs",
        "media/retention/evaluator.py",
        "        if await self.find_run(image.key, {}) is not None:\n            return False\n",
        "",
        (RETENTION, "-k", "asked_again or before_it_is_deleted"),
    ),
    Fault(
        "retention: a plan has what the library needs",
        "media/retention/plan.py",
        "                    if image.key not in recorded:\n",
        "                    if image.key:\n",
        (RETENTION, "-k", "last_runs_stay"),
    ),
    Fault(
        "retention: true is a number of runs",
        "media/retention/file.py",
        "isinstance(value, int) and not isinstance(value, bool) and value > 0",
        "isinstance(value, int) and value > 0",
        (RULES,),
    ),
    Fault(
        "retention: a file that a setting names may be missing",
        "media/retention/file.py",
        "        if not is_named and isinstance(",
        "        if isinstance(",
        (RULES,),
    ),
    Fault(
        "lifetimes: a save whose end cannot be noted takes a newer one with it",
        "media/lifetimes.py",
        "self._storage.delete(image.key, save_id=image.save_id)",
        "self._storage.delete(image.key)",
        ("tests/media/test_lifetimes.py", "-k", "newer"),
    ),
)
