"""Public names whose modules are imported when they are first used: a process pays for what it needs only."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, modules: Mapping[str, tuple[str, ...]]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package with these names, by the module that has them (PEP 562).

    A name that ends its module's is the module itself. What type checkers read, `__init__.pyi`, says the same.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def of_package(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        module = importlib.import_module(homes[name])
        value = module if homes[name].endswith(name) else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(homes), of_package, lambda: sorted({*homes, *vars(sys.modules[package])})
