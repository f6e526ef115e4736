"""The standard report: of a regression and of a classification, from Python and from the command line."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import fastmeta as fm
from fastmeta.cli import main

pytest.importorskip("matplotlib")


def test_the_report_of_a_run(tmp_path):
    run = str(tmp_path / "run")
    quick = ["--iterations", "20", "--episodes", "5", "--device", "numpy"]
    assert CliRunner().invoke(main, ["train", "sinusoid", "--out", run, *quick]).exit_code == 0
    done = CliRunner().invoke(main, ["lab", run, "--episodes", "5", "--device", "numpy"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "run" / "lab.md").read_text("utf-8")
    assert page.startswith("# MAML after 20 iterations\n\n![What the instruments saw](lab.png)")
    assert page in done.output
    for title in ("gains", "last m inner steps", "Sharpness", "Spectrum", "each layer", "float32"):
        assert sum(title in line for line in page.splitlines() if line.startswith("##")) == 1, title
    assert (tmp_path / "run" / "lab.png").stat().st_size > 20_000


def test_labels_have_orders():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 10)
    x = rng.normal(size=(8, 4))[labels] + 0.5 * rng.normal(size=(80, 4))
    tasks = fm.tasks.from_arrays(x, labels, ways=3, shots=2, queries=5)
    rates = np.full((2, 1), 0.2)
    maml = fm.MAML(fm.MLP((4, 8, 3)), rates, inner_steps=2, device="numpy").fit(tasks, 5, tasks_per_step=4)
    found = fm.lab.report(maml, tasks, 4)
    assert list(found.gain) == [0, 2]
    assert found.orders is not None
    assert found.orders.accuracy.shape == (4, 6)
    assert "Which row of the head" in found.page()


def test_a_learner_without_steps_is_refused():
    with pytest.raises(TypeError, match="must adapt by gradient steps"):
        fm.lab.report(fm.ProtoNet(fm.MLP((1, 4, 3))), fm.tasks.Sinusoid())
