"""The pictures: written, of a sensible size, and showing what they were given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm
from fastmeta import plots

PNG = b"\x89PNG\r\n\x1a\n"


def pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def shades(path: Path, colour: str) -> int:
    """How many pixels have exactly this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((pixels(path) == wanted).all(axis=-1).sum())


@pytest.mark.parametrize("iterations", [1, 2, 99, 100, 1234])
def test_learning_curve_draws_any_number_of_losses(tmp_path, iterations):
    path = tmp_path / "curve.png"
    plots.learning_curve(path, np.linspace(4.0, 0.5, iterations), "MAML on sinusoids")
    assert path.read_bytes().startswith(PNG)
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]
    if iterations > 1:
        assert shades(path, plots.STEPS[2]) > 300


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    return figures


def test_learning_curve_is_the_median_of_each_hundredth(drawn, tmp_path):
    losses = np.random.default_rng(0).random(1234)
    plots.learning_curve(tmp_path / "a.png", losses)
    (line,) = drawn[0].axes[0].lines
    parts = losses[:1224].reshape(102, 12)
    np.testing.assert_allclose(line.get_xdata(), 6.5 + 12 * np.arange(102))
    np.testing.assert_allclose(line.get_ydata(), np.median(parts, axis=1))
    (band,) = drawn[0].axes[0].collections
    low, high = np.quantile(parts, (0.1, 0.9), axis=1)
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (low.min(), high.max())


def test_adaptation_draws_its_arrays(drawn, tmp_path):
    rng = np.random.default_rng(0)
    x, truth, support = np.linspace(-5, 5, 20), rng.random((2, 20)), rng.random((2, 2, 3))
    predictions = {0: rng.random((2, 20)), 5: rng.random((2, 20))}
    plots.adaptation(tmp_path / "a.png", x, truth, *support, predictions)
    for task, axes in enumerate(drawn[0].axes):
        curves = {line.get_label(): line.get_ydata() for line in axes.lines}
        assert curves.keys() == {"true curve", "before", "after 5 steps"}
        for name, values in zip(curves, (truth, *predictions.values()), strict=True):
            np.testing.assert_array_equal(curves[name], values[task])
        np.testing.assert_array_equal(axes.collections[0].get_offsets(), support[:, task].T)


@pytest.mark.parametrize(("measure", "unit"), [("accuracy", 100), ("mse", 1)])
def test_comparison_draws_means_and_intervals(drawn, tmp_path, measure, unit):
    """Left each score, right each but the first less the first; grey where the interval holds 0."""
    rng = np.random.default_rng(0)
    first = rng.random(40)
    others = (first - 0.2, first + 0.01 * rng.standard_normal(40))
    scores = [fm.Score(values, measure, stream="1f") for values in (first, *others)]
    differences = [fm.compare(score, scores[0]) for score in scores[1:]]
    plots.comparison(tmp_path / "a.png", "abc", scores, differences)
    left, right = drawn[0].axes
    for axes, wanted, shift in ((left, scores, 0), (right, differences, 1)):
        for row, (bar, value) in enumerate(zip(axes.containers, wanted, strict=True), shift):
            ends = np.array(bar.lines[2][0].get_segments()[0])
            half = unit * value.ci95 * np.array([-1, 1])
            np.testing.assert_allclose(ends, np.stack([unit * value.mean + half, [row, row]], axis=1), rtol=1e-12)
    assert [bar.lines[0].get_color() for bar in right.containers] == [plots.ACCENT, plots.FAINT]
    assert [text.get_text() for text in left.get_yticklabels()] == ["a", "b", "c"]


def test_learning_curve_keeps_the_old_picture_where_it_fails(tmp_path):
    path = tmp_path / "curve.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"losses of shape \(0,\) must be"):
        plots.learning_curve(path, np.empty(0))
    assert path.read_bytes() == b"old"


def test_adaptation_shows_support_points_and_every_prediction(tmp_path):
    path = tmp_path / "sinusoid.png"
    x = np.linspace(-5, 5, 50)
    truth = np.stack([np.sin(x), 2 * np.cos(x)])
    support = np.array([[-4.0, 0.0, 3.0], [-1.0, 1.0, 2.0]])
    predictions = {steps: truth * steps / 11 for steps in (0, 1, 5, 10)}
    plots.adaptation(path, x, truth, support, np.sin(support), predictions)
    for colour in (*plots.STEPS, plots.ACCENT):
        assert shades(path, colour) > 100, colour
    height, width, _ = pixels(path).shape
    assert width > height


def test_no_pyplot_and_no_window():
    program = (
        "import sys, numpy as np, tempfile, pathlib; from fastmeta import plots\n"
        "plots.learning_curve(pathlib.Path(tempfile.mkdtemp()) / 'a.png', np.ones(3))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=_environment())


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "fastmeta\[plots\]"'):
        plots.learning_curve(tmp_path / "curve.png", np.ones(3))


def _environment() -> dict[str, str]:
    import os

    root = Path(__file__).resolve().parents[1]
    return os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'kernels'}"}


def test_convergence_draws_a_line_a_curve(tmp_path):
    path = tmp_path / "errors.png"
    curves = {"4 inner steps": [1.0, 0.5, 0.4], "64 inner steps": [1.0, 1e-3, 1e-8, 1e-12]}
    plots.convergence(path, curves, "conjugate-gradient steps", "relative error")
    assert path.read_bytes().startswith(PNG)
    assert shades(path, plots.STEPS[0]) > 100
    assert shades(path, plots.STEPS[-1]) > 100
