"""Retention feature: rules and lifetimes after which images and runs expire."""

from collections.abc import Iterable

from stillroom.features.library.feature import LibraryFeature
from stillroom.features.metadata.feature import MetadataFeature
from stillroom.features.retention.evaluator import RetentionEvaluator
from stillroom.features.retention.expiry import Expiry
from stillroom.features.retention.file import read_rules
from stillroom.features.retention.lifetimes import Lifetimes
from stillroom.features.retention.rules import FILE_NAME, Rules
from stillroom.features.retention.settings import RetentionSettings
from stillroom.features.runs.feature import RunsFeature
from stillroom.store.background import Job
from stillroom.store.feature import Feature, Store
from stillroom.store.hooks import Hooks
from stillroom.store.settings import Settings


class RetentionFeature(Feature):
    """Expiration of images and runs. `expiry` is None if no rule expires anything."""

    expiry: Expiry | None = None

    def __init__(self, store: Store) -> None:
        library = store.need(LibraryFeature)
        storage, database = store.storage, library.database
        self.rules = rules_of(store.settings)
        self.evaluator = RetentionEvaluator(storage, database, self.rules)
        self._lifetimes = Lifetimes(database)
        library.sweeper.leaves = []
        if self.rules.expire_anything:
            self.expiry = Expiry(storage, database, rules=self.rules, grace=library.grace)
            library.sweeper.still_holds = self.expiry.still_holds
        if (metadata := store.find(MetadataFeature)) is not None:
            metadata.expiration = self.evaluator.expected_expiration
        store.need(RunsFeature).expiration = self.evaluator.expected_run_expiration

    def hooks(self) -> Hooks:
        """Return the hook that handles the request header `Expires-In`."""
        return Hooks(save=(self._lifetimes,))

    def jobs(self) -> Iterable[Job]:
        """Return the scan for expired images and runs, or nothing if no rule can expire them."""
        expiry = self.expiry
        if expiry is None:
            return []
        return [Job(lambda stop: expiry.mark_expired(stop.within), at_once=True)]

    def facts(self) -> Iterable[str]:
        """Return a line with the names and prefixes of the rules, for the server's log."""
        names = ", ".join(f"{rule.name} ({rule.prefix!r})" for rule in self.rules.rules)
        return [f"retention: {names}"] if names else []


def rules_of(settings: Settings) -> Rules:
    """Read the retention rules from their file and `STILLROOM_COMPUTE_TTL`."""
    section = settings.section(RetentionSettings)
    named, ttl = section.retention_file, section.compute_ttl
    file = named or settings.data_dir / FILE_NAME
    return read_rules(file, is_named=named is not None, compute_ttl=ttl)
