"""A file-system call that fails: the right answer, nothing changed, nothing leaked."""

from pathlib import Path

import pytest

from crash.failing_calls import CASES, FAILURES, FALLBACKS, WAYS, Case, violations


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_whichever_call_fails_the_store_is_as_before_and_trying_again_helps(
    tmp_path: Path, case: Case, way: str
) -> None:
    found = []
    failed = 0

    def count() -> None:
        nonlocal failed
        failed += 1

    # `make crash` lets everything fail in every way.
    few = "large" in case.name or way == FALLBACKS
    for verdict in ("ENOSPC", "short") if few else FAILURES:
        found += await violations(tmp_path / verdict, case, WAYS[way], verdict, count)

    assert found == []
    assert failed > 5
