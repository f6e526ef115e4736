"""The pictures: written, of a sensible size, and showing what they were given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
