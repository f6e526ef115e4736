"""Artifacts, written once a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fastmeta as fm
from tests.exports.models import MODELS, trained


@pytest.fixture(scope="session")
def artifact(tmp_path_factory) -> Any:
    """artifact(name) -> the folder of that model's files, and its report."""
    made: dict[str, tuple[Path, fm.ExportReport]] = {}

    def of(name: str) -> tuple[Path, fm.ExportReport]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = folder, fm.export(trained(name), folder, name=name, **MODELS[name][1])
        return made[name]

    return of
