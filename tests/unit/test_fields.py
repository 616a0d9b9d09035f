"""Reading header fields that clients write, and writing dates."""

import base64
import hashlib
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import DigestMismatch
from stillroom.store.http.fields import (
    announced_sha256,
    as_repr_digest,
    as_rfc3339,
    entity_tags,
    format_http_date,
    parse_http_date,
)

DIGEST = hashlib.sha256(b"x").digest()
TEXT = base64.b64encode(DIGEST).decode()


@pytest.mark.parametrize(
    "value",
    [
        f"sha-256=:{TEXT}:",
        f" sha-256=:{TEXT}: ",
        f"sha-512=:{TEXT}{TEXT}:, sha-256=:{TEXT}:",
        f"sha-256=:{TEXT}:;note=1, md5=:AAAA:",
    ],
)
def test_an_announced_digest_is_read(value: str) -> None:
    assert announced_sha256(value) == DIGEST


def test_other_digests_announce_nothing() -> None:
    assert announced_sha256(None) is None
    assert announced_sha256("md5=:AAAA:") is None


@pytest.mark.parametrize(
    "value",
    ["sha-256=:AAAA:", f"sha-256={TEXT}", "sha-256=:not base64:", f"sha-256=:{TEXT[:-1]}:", "junk"],
)
def test_an_unreadable_digest_is_refused(value: str) -> None:
    with pytest.raises(DigestMismatch):
        announced_sha256(value)


@given(st.binary(min_size=32, max_size=32))
def test_a_digest_survives_the_field(digest: bytes) -> None:
    assert announced_sha256(as_repr_digest(digest)) == digest


@given(st.text())
def test_no_text_breaks_the_readers(text: str) -> None:
    entity_tags(text, weak=True)
    parse_http_date(text)
    try:
        announced_sha256(text)
    except DigestMismatch:
        return


@pytest.mark.parametrize(
    ("seconds", "in_http", "in_json"),
    [
        (-(10**15), "Mon, 01 Jan 0001 00:00:00 GMT", "0001-01-01T00:00:00+00:00"),
        (-1, "Wed, 31 Dec 1969 23:59:59 GMT", "1969-12-31T23:59:59+00:00"),
        (10**15, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_date_that_cannot_be_said_is_the_nearest_one_that_can(
    seconds: int, in_http: str, in_json: str
) -> None:
    assert format_http_date(seconds * 10**9) == in_http
    assert as_rfc3339(seconds * 10**9) == in_json


@given(st.integers(min_value=-62_135_596_800, max_value=253_402_300_799))
def test_a_date_is_written_as_the_standard_library_writes_it(seconds: int) -> None:
    assert format_http_date(seconds * 10**9) == formatdate(seconds, usegmt=True)
