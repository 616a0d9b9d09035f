"""Rules of retention by which processes work that are killed at it."""

from datetime import timedelta

from stillroom.media.retention.rules import Rule

OLD = Rule("rule 1", "", expire_after=timedelta(seconds=-60))  # all of it is old


def rules_of(folder: str) -> tuple[Rule, ...]:
    """Rules about what is in a folder, in which all is old."""
    return (
        Rule("rule 1", f"{folder}/tmp/", expire_after=OLD.expire_after),
        Rule("rule 2", f"{folder}/runs/", keep_last_runs=1),
        Rule("rule 3", f"{folder}/tmp/best/", keep=True),
    )
