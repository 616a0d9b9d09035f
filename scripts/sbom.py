"""Write the SBOMs of the locks: requirements/sbom/*.cdx.json, which the wheel carries (PEP 770).

Each is a CycloneDX document with the exact versions that the tests run with. It depends on the lock
and the version of the package alone, so that a build of the same commit has the same bytes.

https://cyclonedx.org/docs/1.6/json/
https://peps.python.org/pep-0770/
"""

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from packaging.markers import Marker

ROOT: Final = Path(__file__).parents[1]
LOCKS: Final = {"client": "", "server": "server"}
"""Names of the locks in requirements/, and the extra of the package that each one installs."""

_SUPPORTED: Final = [
    {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": "linux",
    }
    for version in ("3.11", "3.12", "3.13", "3.14")
]
"""Values of environment markers on the interpreters that the package supports."""

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:stillroom:sbom")
_PIN: Final = re.compile(
    r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: ; (.*?))? *\\?$((?:\n +--hash=sha256:[0-9a-f]{64}.*)*)",
    re.MULTILINE,
)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def sbom_of(lock: str) -> str:
    """Return the SBOM of a lock as JSON text."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = _component("stillroom", _version(), kind="application")
    package["description"] = project["description"]
    package["licenses"] = [{"license": {"id": project["license"]}}]
    package["authors"] = project["authors"]
    if LOCKS[lock]:
        package["properties"] = [{"name": "stillroom:extra", "value": LOCKS[lock]}]
    components = list(_pinned((ROOT / f"requirements/{lock}.txt").read_text()))
    by_name = {component["name"]: component["bom-ref"] for component in components}
    direct = sorted({by_name[name] for name in _direct(project, LOCKS[lock])})
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": package, "lifecycles": [{"phase": "pre-build"}]},
        "components": components,
        "dependencies": [{"ref": package["bom-ref"], "dependsOn": direct}],
        # Locks do not say which package requires which.
        "compositions": [{"aggregate": "incomplete", "dependencies": [package["bom-ref"]]}],
    }
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps(document))}"
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _version() -> str:
    text = (ROOT / "src/stillroom/__init__.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]


def _pinned(lock: str) -> Iterator[dict[str, Any]]:
    for name, version, marker, hashes in _PIN.findall(lock):
        component = _component(_normalized(name), version, kind="library")
        # Those of all files of this version, of which an installation takes one.
        component["externalReferences"] = [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{component['name']}/{version}/",
                "hashes": [{"alg": "SHA-256", "content": one} for one in _HASH.findall(hashes)],
            }
        ]
        if marker:
            component["scope"] = "required" if _is_installed(marker) else "optional"
            component["properties"] = [{"name": "stillroom:environment-marker", "value": marker}]
        yield component


def _is_installed(marker: str) -> bool:
    """Return whether any supported Python installs a package with this marker."""
    parsed = Marker(marker)
    return any(parsed.evaluate(environment) for environment in _SUPPORTED)


def _component(name: str, version: str, *, kind: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _direct(project: dict[str, Any], extra: str) -> set[str]:
    """Return the names of the packages that the package itself requires with this extra."""
    lines = _with_extra(project, extra) if extra else project["dependencies"]
    return {_normalized(name[0]) for line in lines if (name := _NAME.match(line))}


def _with_extra(project: dict[str, Any], extra: str) -> Iterator[str]:
    yield from project["dependencies"]
    for line in project["optional-dependencies"][extra]:
        if match := re.match(r"stillroom\[(.*)\]$", line):
            for other in match[1].split(","):
                yield from _with_extra(project, other)
        else:
            yield line


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(folder: Path) -> None:
    """Write the SBOM of each lock into a folder."""
    folder.mkdir(exist_ok=True)
    for lock in LOCKS:
        (folder / f"stillroom-{lock}.cdx.json").write_text(sbom_of(lock))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "requirements/sbom")
