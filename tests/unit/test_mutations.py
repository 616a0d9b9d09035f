"""The faults of `make mutations` can be planted, and what finds them is there."""

import pytest

from mutations import ROOT, chosen
from mutations.fault import Fault


@pytest.mark.parametrize("fault", list(chosen([])), ids=lambda fault: fault.name)
def test_a_fault_has_its_place_and_its_tests(fault: Fault) -> None:
    text = (ROOT / "src/stillroom" / fault.file).read_text(encoding="utf-8")
    files = [word.partition("::")[0] for word in fault.tests if word.startswith("tests/")]

    assert text.count(fault.old) == 1
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []
