"""Every `>>>` example of a docstring runs and prints what stands below it."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    (root, path)
    for root in (ROOT, ROOT / "kernels")
    for package in ("fastmeta", "fastmeta_kernels")
    for path in sorted((root / package).rglob("*.py"))
    if ">>>" in path.read_text("utf-8")
]


def examples_of(root: Path, path: Path) -> list[doctest.DocTest]:
    """The examples of one module, each with the module's own names."""
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    return [found for found in doctest.DocTestFinder().find(importlib.import_module(name)) if found.examples]


@pytest.mark.parametrize(("root", "path"), FILES, ids=[str(path.relative_to(root)) for root, path in FILES])
def test_examples_print_what_they_show(root, path):
    tests = examples_of(root, path)
    runner, said = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), []
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
    assert runner.tries == path.read_text("utf-8").count(">>> ")  # none is in a place where nobody finds it


def test_learners_and_optimizers_show_an_example():
    assert {"maml.py", "protonet.py", "optimizers.py"} <= {path.name for _, path in FILES}
