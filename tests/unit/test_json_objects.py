"""A JSON object is read as the standard library reads it, up to a bound."""

import json
import random
from typing import Any

import pytest

from stillroom.store.http.json_objects import MAX_VALUES, TooManyValuesError, parse_object

GOOD = [
    b"{}",
    b' \t\r\n{ "a" : [ ] , "b" : { } } \n',
    b'{"a":[1,-2.5e3,true,false,null,"x\\u00e9\\ud83d\\ude00\\n\\"",[[{"":""}]]]}',
    '{"é":"ü😀"}'.encode(),
    b'{"a":"\\ud800"}',
    json.dumps({"a": "ü"}, ensure_ascii=False).encode("utf-16"),
]
BAD = [
    b"",
    b" ",
    b"{",
    b"}",
    b"[]",
    b"1",
    b'"a"',
    b"{}{}",
    b"{} x",
    b'{"a"}',
    b'{"a":}',
    b'{"a":1,}',
    b'{"a":[1,]}',
    b'{"a":[1 2]}',
    b'{"a":[1}',
    b'{"a" 1}',
    b"{a:1}",
    b"{1:1}",
    b'{,"a":1}',
    b'{"a":NaN}',
    b'{"a":-Infinity}',
    b'{"a":01}',
    b'{"a":"\n"}',
    b'{"a":"\\x"}',
    b'{"a":1,"a":1}',
    b'{"a":{"b":1,"b":2}}',
    b'{"a":' + b"1" * 5000 + b"}",
    b'{"\xff":1}',
    b'{"a":1\xc2\xa0}',
]


@pytest.mark.parametrize("data", GOOD, ids=repr)
def test_it_reads_what_the_standard_library_reads(data: bytes) -> None:
    assert parse_object(data) == json.loads(data)


@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data[:30]))
def test_what_is_no_object_with_each_name_once_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_object(data)


def test_damage_is_found_where_the_standard_library_finds_it() -> None:
    dice = random.Random(7)
    whole = GOOD[2]
    for _ in range(3000):
        data = bytearray(whole)
        data[dice.randrange(len(data))] = dice.choice(b'{}[]",:1etn \\u')
        expected = _outcome(json.loads, bytes(data))
        if isinstance(expected, dict):
            assert _outcome(parse_object, bytes(data)) == expected, data
        else:
            assert _outcome(parse_object, bytes(data)) is None, data


def _outcome(parse: Any, data: bytes) -> object:
    try:
        return parse(data)
    except ValueError:
        return None


MAX = MAX_VALUES - 2  # the object and the array count


@pytest.mark.parametrize(
    "content",
    [
        b'"a":[' + b"0," * MAX + b"0]",
        b'"a":[' + b"[]," * MAX + b"0]",
        b",".join(b'"%d":0' % number for number in range(MAX_VALUES)),
        b'"a":' + b"[" * 100_000,
        b'"a":' + b'{"a":' * 100_000,
    ],
    ids=["numbers", "arrays", "names", "deep arrays", "deep objects"],
)
def test_what_holds_too_much_is_given_up(content: bytes) -> None:
    with pytest.raises(TooManyValuesError):
        parse_object(b"{" + content + b"}")


def test_as_much_as_is_allowed_is_read() -> None:
    assert len(parse_object(b'{"a":[' + b"0," * (MAX - 1) + b"0]}")["a"]) == MAX  # type: ignore[arg-type]  # an array


def test_nothing_behind_the_bound_is_looked_at() -> None:
    """426,000 names in 4 MiB: the standard library makes each of them first."""
    names = b",".join(b'"%d":0' % number for number in range(MAX_VALUES))
    with pytest.raises(TooManyValuesError):
        parse_object(b"{" + names + b", this is not JSON any more")
