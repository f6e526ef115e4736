"""Pictures of what papers say of meta-gradients, and of two things that none prints: `python -m benchmarks.figures`.

Each module but `trained` is one figure: `measure(small, options)` gives its numbers, `claims(numbers)` what they show,
as {claim: whether it holds}, `draw(numbers, path)` its picture. small=True is the same at a size for tests, without
data.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results" / "figures"
FIGURES = (
    "taylor",
    "inner_sums",
    "feature_reuse",
    "freezing",
    "label_orders",
    "implicit",
    "truncation",
    "short_horizon",
    "instability",
    "memorisation",
    "first_order",
    "edge_of_stability",
    "cleaning",
)
# how claims begin that the committed numbers do not show
MISSES: dict[str, tuple[str, ...]] = {"label_orders": ("one vector is no worse",)}


@dataclass(frozen=True)
class Options:
    """Where data lie and where trained networks are kept."""

    data: str | None = None  # Omniglot's folder
    fashion: str | None = None  # Fashion-MNIST's folder
    runs: Path = Path("runs/figures")


def figure(name: str) -> Any:
    """The module of a figure."""
    return import_module(f"benchmarks.figures.{name}")
