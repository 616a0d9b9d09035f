"""The query of a listing."""

import dataclasses
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import InvalidInput
from stillroom.paths import ImagePrefix
from stillroom.store.http.parameters import link_after, read_query
from stillroom.store.http.query import ListParameters


def test_nothing_asked_for_is_the_first_hundred() -> None:
    assert read_query(b"", ListParameters) == ListParameters(
        prefix=ImagePrefix(""), limit=100, start_after="", delimited=False
    )


def test_every_parameter_is_read() -> None:
    query = b"prefix=a%2Fb+c%2B&limit=7&start_after=a/%C3%A9&delimiter=/&x=y"
    assert read_query(query, ListParameters) == ListParameters(
        prefix=ImagePrefix("a/b c+"), limit=7, start_after="a/é", delimited=True
    )


def test_a_large_limit_counts_as_the_largest() -> None:
    for limit in (b"10000", b"10001", b"00010001", b"9" * 5000):
        assert read_query(b"limit=" + limit, ListParameters).limit == 10_000


@pytest.mark.parametrize(
    "query",
    [
        b"limit=0",
        b"limit=-1",
        b"limit=1.5",
        b"limit=",
        b"limit=1e3",
        b"limit=%D9%A1",
        b"limit=1&limit=2",
        b"delimiter=x",
        b"prefix=%",
        b"prefix=%ff",
        b"prefix=/",
        b"prefix=../",
        b"prefix=%00",
        b"start_after=%ff",
        b"%ff=1",
    ],
)
def test_a_bad_parameter_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_query(query, ListParameters)


@given(
    last=st.text(alphabet="aé/+& %#?=😀", max_size=20),
    limit=st.integers(1, 10_000),
    delimited=st.booleans(),
)
def test_the_link_to_the_next_page_asks_for_what_was_asked_for(
    last: str, limit: int, *, delimited: bool
) -> None:
    raw = urlencode({"prefix": "p +/", "start_after": "before", "limit": limit, "x": "y"})
    raw += "&delimiter=%2F" * delimited
    asked = read_query(raw.encode(), ListParameters)

    link = link_after(last, raw.encode(), ListParameters)

    assert link.isascii()
    query = link.removeprefix("<?").removesuffix('>; rel="next"')
    assert parse_qs(query, keep_blank_values=True)["start_after"] == [last]
    assert read_query(query.encode(), ListParameters) == dataclasses.replace(
        asked, start_after=last
    )
