"""The SBOMs that the wheel carries name the versions of the locks."""

import json
import re
from pathlib import Path

import pytest

import stillroom
from scripts.sbom import LOCKS, sbom_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("lock", LOCKS)
def test_an_sbom_is_up_to_date(lock: str) -> None:
    written = (ROOT / f"requirements/sbom/stillroom-{lock}.cdx.json").read_text()

    assert written == sbom_of(lock), "the version or a lock was changed: run `make reference`"


@pytest.mark.parametrize("lock", LOCKS)
def test_an_sbom_has_each_package_of_the_lock(lock: str) -> None:
    document = json.loads(sbom_of(lock))
    pins = re.findall(
        r"^([a-z0-9._-]+)==(\S+)", (ROOT / f"requirements/{lock}.txt").read_text(), re.MULTILINE
    )

    assert [(part["name"], part["version"]) for part in document["components"]] == pins
    assert document["metadata"]["component"]["version"] == stillroom.__version__
    known = {part["bom-ref"] for part in document["components"]}
    (of_package,) = document["dependencies"]
    assert of_package["dependsOn"]
    assert set(of_package["dependsOn"]) <= known
