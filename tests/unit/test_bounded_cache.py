"""The cache that tokens, heads, lines, bodies and facts of files are kept in."""

from hypothesis import given
from hypothesis import strategies as st

from stillroom.bounded_cache import BoundedCache


@given(st.lists(st.tuples(st.sampled_from("gpr"), st.integers(0, 9), st.integers(0, 12))))
def test_it_holds_no_more_than_its_size_and_never_another_value(
    steps: list[tuple[str, int, int]],
) -> None:
    cache: BoundedCache[int, str] = BoundedCache(20)
    put: dict[int, tuple[str, int]] = {}
    for step, (what, key, size) in enumerate(steps):
        if what == "p":
            put[key] = (f"{step}", size)
            cache.put(key, f"{step}", size)
        elif what == "r":
            put.pop(key, None)
            cache.remove(key)
        else:
            assert cache.get(key) in (None, put.get(key, ("",))[0])
        held = [size for key, (value, size) in put.items() if cache.get(key) == value]
        assert cache._size == sum(held) <= 20
        assert len(cache) == len(held)


def test_what_is_asked_for_outlives_what_is_not() -> None:
    cache: BoundedCache[int, str] = BoundedCache(10)
    cache.put(-1, "asked for")
    for number in range(1000):
        assert cache.get(-1) == "asked for"
        cache.put(number, "once")


def test_what_is_larger_than_the_cache_replaces_nothing() -> None:
    cache: BoundedCache[str, str] = BoundedCache(10)
    cache.put("a", "small", 3)
    cache.put("b", "large", 11)
    assert (cache.get("a"), cache.get("b")) == ("small", None)
    nothing: BoundedCache[str, str] = BoundedCache(0)
    nothing.put("a", "small", 1)
    assert nothing.get("a") is None
