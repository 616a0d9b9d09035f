"""Checks of a bucket's lifecycle and CORS rules for uploads, with rules that are ready to paste."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from stillroom.errors import BackendUnavailable, FeatureOff
from stillroom.features.grants.probes import Kept, UploadProbe
from stillroom.store.objectstore import TakesPresignedUploads
from stillroom.store.uploads import Uploads

HEADERS: Final = ("content-disposition", "content-type", "if-none-match", "x-amz-checksum-sha256")
"""Headers that a page on another origin must be allowed to send."""

Rule = frozenset[tuple[str, str]]
"""Rule of a bucket: names and texts of all elements."""

_SOON: Final = frozenset((("Days", "1"), ("Days", "2")))
"""Lifetimes of uploads that are short enough. Buckets count days from midnight."""

_OTHER: Final = frozenset(("Transition", "Tag"))  # rules that delete nothing, or not everything


async def check_uploads(uploads: Uploads, origins: Sequence[str]) -> list[tuple[str, str]]:
    """Check which headers of uploads the bucket enforces, and its rules for uploads.

    Return findings with their remedies, which are empty if nothing is missing. Raises
    `BackendUnavailable` if the bucket cannot be reached.
    """
    if uploads.unsupported is not None:
        return [(uploads.unsupported, "docs/uploads.md")]
    if uploads.store is None:
        return []
    try:
        kept = await UploadProbe(uploads.store).find_kept()
    except FeatureOff as error:
        return [(str(error), "use another bucket for uploads with grants (docs/uploads.md)")]
    found = [(f"the bucket enforces {', '.join(kind for kind in Kept if kind in kept)}", "")]
    if lost := ", ".join(kind for kind in Kept if kind not in kept):
        found.append((f"the bucket does not enforce {lost}", "docs/uploads.md"))
    return found + [
        finding async for finding in check_rules(uploads.store, uploads.prefix, origins)
    ]


async def check_rules(
    store: TakesPresignedUploads, prefix: str, origins: Sequence[str]
) -> AsyncIterator[tuple[str, str]]:
    """Yield findings about the lifecycle and CORS rules, with their remedies."""
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
    # In the forms of `aws s3api put-bucket-lifecycle-configuration` and of Cloudflare's dashboard.
    for kind, wanted in {"lifecycle": {"Rules": [lifecycle]}, "cors": [cors]}.items():
        rule = json.dumps(wanted)
        try:
            rules = await store.bucket_rules(kind)
        except BackendUnavailable as error:  # reading them needs more permissions than saving
            yield f"cannot read the {kind} rules of the bucket ({error})", f"see to {rule}"
            continue
        if expires(rules, prefix) if kind == "lifecycle" else allows(rules, origins):
            yield f"the bucket has the {kind} rule for uploads", ""
        else:
            yield f"the bucket has no {kind} rule for uploads", f"add {rule}"


def expires(rules: Sequence[Rule], prefix: str) -> bool:
    """Return whether a rule deletes uploads after a day. Rules for all objects are none of them."""
    needed = {("Prefix", prefix), ("Status", "Enabled")}
    names = [{name for name, _ in rule} for rule in rules]
    return any(
        rule >= needed and rule & _SOON and "Expiration" in known and not known & _OTHER
        for rule, known in zip(rules, names, strict=True)
    )


def allows(rules: Sequence[Rule], origins: Sequence[str]) -> bool:
    """Return whether rules allow pages of all `origins` to upload. Without origins, any will do."""
    allowed: set[str] = set()
    for rule in rules:
        headers = {text.lower() for name, text in rule if name == "AllowedHeader"}
        if ("AllowedMethod", "PUT") in rule and ("*" in headers or headers.issuperset(HEADERS)):
            allowed |= {text for name, text in rule if name == "AllowedOrigin"}
    return "*" in allowed or (bool(allowed) and allowed.issuperset(origins))
