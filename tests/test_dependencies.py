"""What pip may install beside fastmeta: nothing with a known vulnerability, no major version that nobody tried."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {name: rows for name, rows in PROJECT["optional-dependencies"].items() if name != "lint"}  # of exact versions
REQUIREMENTS = sorted({row.split(";")[0] for rows in [PROJECT["dependencies"], *EXTRAS.values()] for row in rows})
SAFE = {  # the first version without what is known of the ones before
    "h5py": (3, 16),  # the newest HDF5 that its wheels have
    "onnx": (1, 21),  # CVE-2026-27489, 28500, 34445
    "pillow": (12, 3),  # CVE-2026-25990, 40192, 42308 to 42311, 55379, 55798, 59198, 59203
    "pyarrow": (23, 0, 1),  # CVE-2023-47248, CVE-2026-25087
    "pytest": (9, 0, 3),  # CVE-2025-71176
    "tqdm": (4, 66, 3),  # CVE-2024-34062
}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_every_dependency_has_a_safe_lower_and_an_upper_bound(requirement):
    found = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z]+\])?>=([0-9.]+),<([0-9.]+)", requirement.strip())
    assert found, requirement
    name, lowest, beyond = found.groups()
    assert version(lowest) >= SAFE.get(name, ())
    assert version(beyond) > version(lowest)


@pytest.mark.parametrize("name", SAFE)
def test_what_is_known_concerns_a_dependency(name):
    assert any(re.match(rf"{name}\b[^-]", requirement) for requirement in REQUIREMENTS)
