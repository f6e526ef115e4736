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


def test_the_cost_of_frozen_on_a_well_trained_model_is_as_measured():
    printed = (RESULTS / "frozen-trained.txt").read_text("utf-8")
    pairs = {mode: rf"frozen less {mode} +(\S+) points ± (\S+)" for mode in ("support", "transductive")}
    found = {mode: [tuple(map(float, pair)) for pair in re.findall(of, printed)] for mode, of in pairs.items()}
    scores = [float(score) for score in re.findall(r"^ +transductive +([\d.]+) %", printed, re.MULTILINE)]
    said = re.search(
        r"scores ([\d.]+) % transductively at one shot and ([\d.]+) % at five; frozen less \"support\" is "
        r"(\S+) ± (\S+) and (\S+) ± (\S+) points, frozen less transductive (\S+) ± (\S+) and (\S+) ± ([\d.]+)\.",
        page("deployment/README.md"),
    )
    assert said is not None
    one, five, *rest = map(float, said.groups())
    assert scores == [one, five]
    assert found == {
        "support": [tuple(rest[:2]), tuple(rest[2:4])],
        "transductive": [tuple(rest[4:6]), tuple(rest[6:])],
    }
    assert all(abs(difference) <= 0.5 for difference, _ in found["support"]), "the bar: within 0.5 points of support"
