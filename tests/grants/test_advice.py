"""Which rules of a bucket are good enough for uploads."""

from typing import TYPE_CHECKING, cast

import pytest

from stillroom.errors import BackendUnavailable
from stillroom.features.grants.advice import Rule, allows, check_rules, expires

if TYPE_CHECKING:
    from stillroom.store.objectstore import TakesPresignedUploads

ORIGIN = "https://a.example"


@pytest.mark.parametrize(
    ("prefix", "status", "days", "more", "is_enough"),
    [
        ("temp/", "Enabled", "1", ["Expiration"], True),
        ("temp/", "Disabled", "1", ["Expiration"], False),
        ("temp/", "Enabled", "7", ["Expiration"], False),
        ("temp/", "Enabled", "x", ["Expiration"], False),
        ("temp/", "Enabled", "1", ["Transition"], False),
        ("temp/", "Enabled", "1", ["Expiration", "Tag"], False),
        ("compute/", "Enabled", "1", ["Expiration"], False),
        ("", "Enabled", "1", ["Expiration"], False),
    ],
)
def test_only_a_short_rule_for_uploads_alone_is_enough(
    prefix: str, status: str, days: str, more: list[str], is_enough: bool
) -> None:
    rule = {("Prefix", prefix), ("Status", status), ("Days", days), *((name, "") for name in more)}

    assert expires([frozenset(rule)], "temp/") is is_enough


@pytest.mark.parametrize(
    ("method", "origin", "header", "is_enough"),
    [
        ("PUT", "*", "*", True),
        ("PUT", ORIGIN, "*", True),
        ("GET", "*", "*", False),
        ("PUT", "https://b.example", "*", False),
        ("PUT", "*", "Content-Type", False),
    ],
)
def test_a_page_needs_its_origin_the_method_and_all_headers(
    method: str, origin: str, header: str, is_enough: bool
) -> None:
    names = [("AllowedMethod", method), ("AllowedOrigin", origin), ("AllowedHeader", header)]

    assert allows([frozenset(names)], [ORIGIN]) is is_enough
    assert not allows([frozenset(names)], [ORIGIN, "https://c.example"]) or origin == "*"


async def test_rules_that_cannot_be_read_are_a_note_with_the_rule() -> None:
    class Refuses:
        async def bucket_rules(self, kind: str) -> list[Rule]:
            raise BackendUnavailable(f"no {kind}")

    store = cast("TakesPresignedUploads", Refuses())  # it is asked for nothing else
    lifecycle, cors = [finding async for finding in check_rules(store, "temp/", [])]

    assert "cannot read the lifecycle rules" in lifecycle[0]
    assert '"Prefix": "temp/"' in lifecycle[1]
    assert "cannot read the cors rules" in cors[0]
    assert "https://app.example.com" in cors[1]
