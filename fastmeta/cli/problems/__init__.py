"""The problems of the command line, one a file: tasks, a network, settings and their values, pictures."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from fastmeta.cli.problems.problem import Problem

_FILES = [importlib.import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
PROBLEMS: dict[str, type[Problem]] = {
    thing.name: thing
    for file in _FILES
    for thing in vars(file).values()
    if isinstance(thing, type)
    and issubclass(thing, Problem)
    and hasattr(thing, "name")
    and not inspect.isabstract(thing)
}
