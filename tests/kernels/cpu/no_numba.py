"""A plugin of pytest: a process in which Numba and llvmlite are as good as not installed."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class Absent(MetaPathFinder):
    """Finds none of the compiler's packages, where others would."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ModuleNotFoundError(f"No module named {name!r}, by this test", name=name)


sys.meta_path.insert(0, Absent())
