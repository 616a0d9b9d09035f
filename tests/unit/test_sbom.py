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


@pytest.mark.parametrize("lock", LOCKS)
def test_an_sbom_has_each_hash_of_the_lock_at_its_package(lock: str) -> None:
    document = json.loads(sbom_of(lock))
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    locked = [set(re.findall(r"sha256:([0-9a-f]{64})", entry)) for entry in entries]
    assert all(locked)
    for component, expected in zip(document["components"], locked, strict=True):
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
        (files,) = component["externalReferences"]
        assert {file["content"] for file in files["hashes"]} == expected


def test_an_sbom_requires_what_a_supported_python_installs() -> None:
    components = json.loads(sbom_of("server"))["components"]
    scopes = {component["name"]: component.get("scope", "required") for component in components}

    assert scopes["cffi"] == "required"  # on CPython, and not on PyPy
    assert {name for name, scope in scopes.items() if scope == "optional"} == {"tzdata"}
