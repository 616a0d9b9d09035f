"""Building the distributions, and installing them into environments that hold nothing else."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from surroundings import inherited

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements_of(extra: str) -> Iterator[Requirement]:
    """The requirements of an extra, with those of the extras that it names."""
    for one in map(Requirement, PROJECT["optional-dependencies"][extra]):
        if one.name == PROJECT["name"]:
            for named in one.extras:
                yield from requirements_of(named)
        else:
            yield one


def build(kind: str, folder: Path, *, source: Path = ROOT) -> Path:
    """Build a `wheel` or an `sdist` from `source`, by what is installed here alone."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=600,
    )
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def newest_python() -> str:
    """The newest Python that CI tests on, if it is here; else this one."""
    asked = ["python3.13", "-c", "import sys; print(sys.executable)"]
    if shutil.which(asked[0]):
        found = subprocess.run(asked, capture_output=True, text=True, check=False)
        return found.stdout.strip() or sys.executable
    return sys.executable


def install(wheel: Path, lock: str, folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    locked = str(ROOT / "requirements" / lock)
    subprocess.run([*pip, "install", "--require-hashes", "-r", locked], check=True, timeout=600)
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True, timeout=600)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    return folder / "bin"


def bare_environment(**variables: str) -> dict[str, str]:
    """This one's, without what would lead an interpreter back to this checkout, or set anything."""
    return inherited("PYTHONPATH", "R2_") | variables
