"""The figures' claims: live at a small size where that takes seconds, and of the committed numbers for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import FIGURES, MISSES, RESULTS, Options, figure
from benchmarks.figures.__main__ import plain

LIVE = ("taylor", "truncation", "implicit", "short_horizon", "cleaning")
SIZE = {"short_horizon": "and end at", "cleaning": "cleaned 9"}  # claims that need the whole size
MEASURED = sorted(path.stem for path in RESULTS.glob("*.json"))


@pytest.mark.parametrize("name", LIVE)
def test_claims_hold_at_a_small_size(name, tmp_path):
    of = figure(name)
    numbers = plain(of.measure(True, Options()))
    found = of.claims(numbers)
    assert found
    if name in SIZE:
        found.pop(next(claim for claim in found if claim.startswith(SIZE[name])))
    assert all(found.values()), found
    if pytest.importorskip("matplotlib"):
        of.draw(numbers, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 5_000


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FIGURES if name not in LIVE])
def test_the_others_run_at_a_small_size(name):
    of = figure(name)
    assert of.claims(plain(of.measure(True, Options())))


@pytest.mark.parametrize("name", MEASURED)
def test_committed_numbers_show_what_is_claimed(name):
    numbers = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    missed = [claim for claim, holds in figure(name).claims(numbers).items() if not holds]
    known = MISSES.get(name, ())
    assert all(claim.startswith(known) for claim in missed), missed
    assert len(missed) == len(known), "a miss that is no more must leave MISSES"
    assert (RESULTS / f"{name}.png").stat().st_size > 5_000


def test_every_figure_is_a_module_and_says_its_source():
    folder = Path(figure("taylor").__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__", "trained"}
    assert set(FIGURES) == modules
    assert set(MEASURED) <= set(FIGURES)
    assert all(figure(name).__doc__ for name in FIGURES)
