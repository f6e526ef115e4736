"""Implicit MAML: the error of its gradient over conjugate-gradient steps, and its memory over inner steps.

`python -m benchmarks.implicit_gradient [--device numpy] [--picture FILE]`
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastmeta as fm
from benchmarks.machine import peak_memory

RESULTS = Path(__file__).resolve().parent / "results"
NET = fm.MLP((10, 20, 20, 5), activation="tanh")
INNER_LR, STRENGTH, CG_STEPS, INNER_STEPS = 0.1, 2.0, 20, (4, 16, 64, 1000)
PEAK_STEPS = (5, 20, 100)


def main() -> None:
    """Print both tables and draw the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="numpy", choices=["numpy", "cpu"])
    parser.add_argument("--picture", default=RESULTS / "implicit-gradient-error.png")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)  # in a process of its own: ALGORITHM STEPS
    options = parser.parse_args()
    if options.peak:
        print(peak(options.peak[0], int(options.peak[1]), options.device))
        return
    curves = errors(options.device)
    print(f"relative error of the gradient, {NET}, lambda {STRENGTH}, float64; columns: inner steps")
    print(f"{'CG':>4}" + "".join(f"{steps:>10,}" for steps in curves))
    for i in range(CG_STEPS):
        print(f"{i + 1:>4}" + "".join(f"{curve[i]:>10.1e}" for curve in curves.values()))
    print(f"\npeak memory of a process, MiB, Conv4-8, 4 tasks, device {options.device}; columns: inner steps")
    print(f"{'':8}" + "".join(f"{steps:>8}" for steps in PEAK_STEPS))
    for algorithm in ("iMAML", "MAML"):
        peaks = [_peak_elsewhere(algorithm, steps, options.device) for steps in PEAK_STEPS]
        print(f"{algorithm:8}" + "".join(f"{mebibytes:>8.0f}" for mebibytes in peaks))
    from fastmeta import plots

    named = {f"{steps:,} inner steps": curve for steps, curve in curves.items()}
    plots.convergence(options.picture, named, "conjugate-gradient steps", "relative error of the gradient")
    print(f"\nPicture: {options.picture}")


def errors(device: str) -> dict[int, list[float]]:
    """Relative error after each conjugate-gradient step, by inner steps, to the gradient at the exact minimum."""
    theta, tasks = NET.init(0, "float64"), clusters((10,))
    batch = tasks.sample(5, seed=0)
    x, y, curves = batch.x_support, batch.y_support, {}
    for steps in reversed(INNER_STEPS):
        learner = fm.iMAML(NET, INNER_LR, steps, STRENGTH, CG_STEPS, device=device)
        learner.fit(tasks, 0, theta=theta)
        if not curves:  # the most steps end at the minimum
            phi = learner.adapt(x, y).theta
            hessians = np.stack([fm.hvp(NET, phi, v, x, y, device=device) for v in np.eye(theta.size)], axis=2)
            slopes = fm.gradient(NET, phi, batch.x_query, batch.y_query, device=device)[1]
            matrices = np.eye(theta.size) + hessians / STRENGTH
            exact = np.linalg.solve(matrices, slopes[..., None])[..., 0].mean(axis=0)
        _, *gradients = learner.implicit_gradients(batch)
        curves[steps] = [float(np.linalg.norm(g - exact) / np.linalg.norm(exact)) for g in gradients]
    return dict(reversed(curves.items()))


def clusters(shape: tuple[int, ...]) -> fm.tasks.LabelledTasks:
    """5-way 1-shot tasks of 30 random classes."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(30), 20)
    x = rng.standard_normal((30, *shape))[labels] + rng.standard_normal((600, *shape))
    return fm.tasks.from_arrays(x.astype(np.float32), labels, ways=5, shots=1, queries=5)


def peak(algorithm: str, steps: int, device: str) -> float:
    """Largest resident memory of this process after one meta-gradient, MiB."""
    net, tasks = fm.Conv4((28, 28, 1), channels=8, outputs=5), clusters((28, 28, 1))
    kinds = {"iMAML": fm.iMAML(net, 0.01, steps, device=device), "MAML": fm.MAML(net, 0.01, steps, device=device)}
    kinds[algorithm].fit(tasks, 0).meta_gradients(tasks.sample(4, seed=0))
    return peak_memory()


def _peak_elsewhere(algorithm: str, steps: int, device: str) -> float:
    command = [
        sys.executable,
        "-m",
        "benchmarks.implicit_gradient",
        "--device",
        device,
        "--peak",
        algorithm,
        str(steps),
    ]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
