"""Rules of retention by which processes work that are killed at it."""

from datetime import timedelta

from stillroom.features.retention.rules import Rule


def rules_about(folder: str) -> tuple[Rule, ...]:
    """Rules about what is in a folder, or about everything, in which all is old."""
    old = timedelta(seconds=-60)
    if not folder:
        return (Rule("rule 1", "", expire_after=old),)
    return (
        Rule("rule 1", f"{folder}/tmp/", expire_after=old),
        Rule("rule 2", f"{folder}/runs/", keep_last_runs=1),
        Rule("rule 3", f"{folder}/tmp/best/", keep=True),
    )
