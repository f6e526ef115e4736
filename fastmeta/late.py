"""Public names whose modules are imported when they are first used: a process pays for what it needs only."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any


def attach(package: str, file: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package (PEP 562), whose names are those that the `.pyi` imports.

    `file` is the package's `__init__.py`; the `__init__.pyi` beside it is what type checkers read.
    """
    homes = _homes(os.path.splitext(file)[0] + ".pyi")

    def of_package(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        module, inside = homes[name]
        value: Any = importlib.import_module(module)
        value = getattr(value, inside) if inside else value
        setattr(sys.modules[package], name, value)
        return value

    return sorted(homes), of_package, lambda: sorted({*homes, *vars(sys.modules[package])})


def _homes(stub: str) -> dict[str, tuple[str, str]]:
    """Public name -> its module and its name there, "" where it is the module itself."""
    homes: dict[str, tuple[str, str]] = {}
    with open(stub, "rb") as file:
        parsed = ast.parse(file.read())
    for node in parsed.body:
        if isinstance(node, ast.Import):
            homes |= {str(alias.asname): (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            homes |= {alias.name: (str(node.module), alias.name) for alias in node.names}
    return homes
