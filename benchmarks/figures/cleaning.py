"""Hyper-cleaning (Franceschi et al. 2017, arXiv 1703.01785): a weight a training sample, learned by clean samples.

Half of the training labels are wrong. Weights sigmoid(a) of a softmax regression follow the exact gradient of the loss
on clean validation samples after S inner steps, or the gradient through the last K of them (Shaban et al. 2019).
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options

TRAIN, VALIDATION, TEST, WRONG = 5000, 5000, 10_000, 0.5
STEPS, RATE, HYPER_STEPS, HYPER_RATE = 50, 2.0, 25, 0.2
TRUNCATIONS = (1, 10, 50)
EPSILON = 0.1  # of the variances of principal axes
SMALL = (300, 100, 1000)  # samples of 10 random clusters, for tests


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Accuracy on the test samples of each way to train, F1 of the wrong labels found, by truncation."""
    sizes = SMALL if small else (TRAIN, VALIDATION, TEST)
    x, y = clusters(sum(sizes)) if small else fashion(options.fashion, sum(sizes))
    parts = np.split(np.random.default_rng(0).permutation(len(x))[: sum(sizes)], np.cumsum(sizes)[:-1])
    (x_train, y_clean), valid, test = ((x[rows], y[rows]) for rows in parts)
    if not small:
        x_train, valid, test = (
            whitened(x_train, x_train),
            (whitened(valid[0], x_train), valid[1]),
            (whitened(test[0], x_train), test[1]),
        )
    y_train, wrong = corrupted(y_clean)
    net = fm.Network([fm.Linear(10)], (x.shape[1],))
    train, both = (x_train, y_train), (np.concatenate([x_train, valid[0]]), np.concatenate([y_train, valid[1]]))
    steps, hyper_steps = (12, 25) if small else (STEPS, HYPER_STEPS)
    ones = np.ones(len(valid[0]), x.dtype)
    found: dict[str, Any] = {
        "all": accuracy(net, *both, None, test, steps),
        "validation alone": accuracy(net, *valid, None, test, steps),
        "oracle": accuracy(net, *both, np.r_[~wrong, ones].astype(x.dtype), test, steps),
    }
    for back in (1, steps) if small else TRUNCATIONS:
        weights, losses = cleaned(net, train, valid, steps, back, hyper_steps)
        kept = (weights > 0.5).astype(x.dtype)
        flagged = kept == 0
        hits = float((flagged & wrong).sum())
        found[f"through {back} steps"] = {
            "accuracy": accuracy(net, *both, np.r_[kept, ones], test, steps),
            "F1": 2 * hits / float(flagged.sum() + wrong.sum()),
            "losses": losses,
        }
    return found


def cleaned(
    net: fm.Network, train: tuple[Any, Any], valid: tuple[Any, Any], steps: int, back: int, hyper_steps: int
) -> tuple[Any, list[float]]:
    """Weights (N,) of the training samples and the validation losses on the way."""
    theta, a = np.zeros(net.parameter_count, train[0].dtype), np.zeros(len(train[0]), train[0].dtype)
    optimizer = fm.Adam(HYPER_RATE)
    moments, losses = optimizer.init(a), []
    for _ in range(hyper_steps):
        weights = 1 / (1 + np.exp(-a))
        phi = fm.adapt(net, theta, *train, RATE, steps - back, weights=weights) if back < steps else theta
        batch = fm.Batch(*(part[None] for part in (*train, *valid)), support_weights=weights[None])
        result = fm.meta_gradient(net, phi, batch, RATE, back, each_weight=True)
        assert result.weights_gradient is not None
        losses.append(result.loss)
        slope = result.weights_gradient[0] * weights * (1 - weights)
        a, moments = optimizer.update(a, slope * len(a), moments)
    return 1 / (1 + np.exp(-a)), losses


def accuracy(net: fm.Network, x: Any, y: Any, weights: Any, test: tuple[Any, Any], steps: int) -> float:
    """On the test samples, after more steps from zeros on these."""
    if weights is not None:
        weights = weights * (len(weights) / weights.sum())
    phi = fm.adapt(net, np.zeros(net.parameter_count, x.dtype), x, y, RATE, 2 * steps, weights=weights)
    return float((net.predict(phi, test[0]).argmax(axis=1) == test[1]).mean())


def whitened(x: Any, of: Any) -> Any:
    """x along the principal axes of the samples `of`, divided by their deviations there, at least sqrt(EPSILON)."""
    middle = of.mean(axis=0)
    values, axes = np.linalg.eigh((of - middle).T @ (of - middle) / len(of))
    return ((x - middle) @ (axes / np.sqrt(values + EPSILON))).astype(np.float32)


def corrupted(y: Any) -> tuple[Any, Any]:
    """Labels of which half are drawn anew, and which of them are wrong now."""
    rng = np.random.default_rng(1)
    drawn = np.where(rng.uniform(size=len(y)) < WRONG / 0.9, rng.integers(0, 10, len(y)), y)
    return drawn, drawn != y


def fashion(folder: str | None, count: int) -> tuple[Any, Any]:
    """Images (n, 784) and labels of Fashion-MNIST (Xiao et al. 2017, MIT)."""
    if folder is None:
        raise SystemExit("--fashion must name the folder with Fashion-MNIST's files (Debian: dataset-fashion-mnist).")
    with gzip.open(Path(folder) / "train-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)[:count]
    with gzip.open(Path(folder) / "train-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)[:count]
    return x.astype(np.float32) / np.float32(255), y.astype(np.int64)


def clusters(count: int) -> tuple[Any, Any]:
    """10 random clusters in 20 dimensions."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, count)
    return (rng.standard_normal((10, 20))[y] + 0.8 * rng.standard_normal((count, 20))).astype(np.float32), y


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """Cleaned beats training on all and on the validation samples alone; the wrong labels are found; K side by side."""
    rows = {name: one for name, one in numbers.items() if isinstance(one, dict)}
    *_, whole = rows.values()
    shown = ", ".join(f"{name}: {100 * o['accuracy']:.2f} % and F1 {o['F1']:.3f}" for name, o in rows.items())
    base = max(numbers["all"], numbers["validation alone"])
    return {
        f"cleaned {100 * whole['accuracy']:.2f} %, all {100 * numbers['all']:.2f}, validation alone "
        f"{100 * numbers['validation alone']:.2f}, oracle {100 * numbers['oracle']:.2f}": whole["accuracy"] > base,
        f"cleaned less all at least 2 points ({shown})": whole["accuracy"] - numbers["all"] >= 0.02,
        "F1 of the wrong labels at least 0.88": whole["F1"] >= 0.88,
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Validation loss over hyper-steps, by truncation, and the accuracies."""
    from fastmeta import plots
    from fastmeta.lab import pictures

    rows = {name: one for name, one in numbers.items() if isinstance(one, dict)}
    figure = plots.new_figure(9.5, 3.8)
    left, right = figure.subplots(1, 2)
    curves = {name: np.array(one["losses"]) for name, one in rows.items()}
    at = np.arange(1, len(next(iter(curves.values()))) + 1)
    pictures.draw_curves(left, at, curves, "hyper-steps", ylabel="validation loss")
    shown = {name: numbers[name] for name in ("all", "validation alone", "oracle")}
    shown |= {name: one["accuracy"] for name, one in rows.items()}
    values = np.array([100 * value for value in shown.values()])
    pictures.draw_bars(right, list(shown), {"test accuracy, %": values}, "")
    right.set_ylim(values.min() - 3, values.max() + 2)
    plots.save(figure, path)
