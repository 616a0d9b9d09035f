"""Checks of a bucket's settings for uploads. Missing rules are returned ready to paste."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from stillroom.errors import BackendUnavailable, FeatureOff
from stillroom.features.grants.probes import Guarantee, UploadProbe
from stillroom.store.objectstore import TakesPresignedUploads
from stillroom.store.uploads import Uploads

# Headers that a page on another origin must be allowed to send.
HEADERS: Final = ("content-disposition", "content-type", "if-none-match", "x-amz-checksum-sha256")
Rule = frozenset[tuple[str, str]]  # name and text of each XML element in a rule of a bucket

# Lifetimes of uploads that are short enough. Buckets count days from midnight.
_SOON: Final = frozenset((("Days", "1"), ("Days", "2")))
_OTHER: Final = frozenset(("Transition", "Tag"))  # rules that delete nothing, or not everything


async def check_uploads(uploads: Uploads, origins: Sequence[str]) -> list[tuple[str, str]]:
    """Check the bucket's rules for uploads, and which upload headers the bucket enforces.

    Return pairs of a finding and its remedy. The remedy is empty if nothing is missing. `origins`
    belong to web pages that upload. Raises `BackendUnavailable` if the bucket cannot be reached.
    """
    if uploads.unsupported is not None:
        return [(uploads.unsupported, "docs/uploads.md")]
    if uploads.store is None:
        return []
    try:
        guarantees = await UploadProbe(uploads.store).find_guarantees()
    except FeatureOff as error:
        return [(str(error), "use another bucket for uploads with grants (docs/uploads.md)")]
    findings = [
        (f"the bucket enforces {', '.join(kind for kind in Guarantee if kind in guarantees)}", "")
    ]
    if lost := ", ".join(kind for kind in Guarantee if kind not in guarantees):
        findings.append((f"the bucket does not enforce {lost}", "docs/uploads.md"))
    return findings + [
        finding async for finding in check_rules(uploads.store, uploads.prefix, origins)
    ]


async def check_rules(
    store: TakesPresignedUploads, prefix: str, origins: Sequence[str]
) -> AsyncIterator[tuple[str, str]]:
    """Yield pairs of a finding about the lifecycle or CORS rules and its remedy."""
    lifecycle = {
        "ID": "abandoned-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "Expiration": {"Days": 1},
    }
    cors = {
        "AllowedOrigins": [*origins] or ["https://app.example.com"],
        "AllowedMethods": ["PUT"],
        "AllowedHeaders": [*HEADERS],
        "MaxAgeSeconds": 3600,
    }
    # Remedies for `aws s3api put-bucket-lifecycle-configuration` and for Cloudflare's dashboard.
    for kind, wanted in {"lifecycle": {"Rules": [lifecycle]}, "cors": [cors]}.items():
        rule = json.dumps(wanted)
        try:
            rules = await store.bucket_rules(kind)
        except BackendUnavailable as error:  # reading rules needs more permissions than saving
            yield f"cannot read the {kind} rules of the bucket ({error})", f"see to {rule}"
            continue
        if expires(rules, prefix) if kind == "lifecycle" else allows(rules, origins):
            yield f"the bucket has the {kind} rule for uploads", ""
        else:
            yield f"the bucket has no {kind} rule for uploads", f"add {rule}"


def expires(rules: Sequence[Rule], prefix: str) -> bool:
    """Return whether a rule deletes uploads after a day. Only rules for exactly `prefix` count."""
    needed = {("Prefix", prefix), ("Status", "Enabled")}
    return any(
        rule >= needed and rule & _SOON and "Expiration" in names and names.isdisjoint(_OTHER)
        for rule in rules
        for names in [{name for name, _ in rule}]
    )


def allows(rules: Sequence[Rule], origins: Sequence[str]) -> bool:
    """Return whether the rules let all `origins` (at least one origin if empty) upload files."""
    allowed: set[str] = set()
    for rule in rules:
        headers = {text.lower() for name, text in rule if name == "AllowedHeader"}
        if ("AllowedMethod", "PUT") in rule and ("*" in headers or headers.issuperset(HEADERS)):
            allowed |= {text for name, text in rule if name == "AllowedOrigin"}
    return "*" in allowed or (bool(allowed) and allowed.issuperset(origins))
