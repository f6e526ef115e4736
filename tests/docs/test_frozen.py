"""What the pages say of frozen batch norm is what the committed runs printed."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def page(name: str) -> str:
    """A page in one line."""
    return " ".join((ROOT / "docs" / name).read_text("utf-8").split())


def test_the_gain_of_finishing_frozen_is_as_measured():
    printed = (RESULTS / "frozen-training.txt").read_text("utf-8")
    found = re.findall(r"^(\w+) +gain of finishing frozen: ([+-][\d.]+) ± ([\d.]+) points", printed, re.MULTILINE)
    gains = {mode: (float(mean), float(deviation)) for mode, mean, deviation in found}
    said = re.search(
        r'predict "frozen" ([\d.]+) points better \(deviation of seeds ([\d.]+)\), "support" ([\d.]+) \(([\d.]+)\), '
        r"and transductively ([\d.]+) worse \(([\d.]+)\)",
        page("algorithms.md"),
    )
    assert said is not None
    frozen, f, support, s, transductive, t = map(float, said.groups())
    assert gains == {"transductive": (-transductive, t), "support": (support, s), "frozen": (frozen, f)}
    assert printed.count("\nseed ") + printed.startswith("seed ") == 3
