"""iMAML's figure 2 (Rajeswaran et al. 2019, arXiv 1909.04630): error of the gradient by the products that it takes.

Conjugate gradients and Neumann's series solve the implicit equation at phi; truncated unrolling goes back through the
last steps on the proximal objective, which at the minimum are the terms of Neumann's series (Shaban et al. 2019).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options
from benchmarks.implicit_gradient import clusters

NET = fm.MLP((10, 20, 20, 5), activation="tanh")
RATE, STRENGTH, MINIMUM = 0.1, 2.0, 1000


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Relative errors after 1 .. K products of each method, and of the whole unrolled gradient by our own engine."""
    products, theta, tasks = 10 if small else 25, NET.init(0, "float64"), clusters((10,))
    batch = tasks.sample(2 if small else 5, seed=0)
    learner = fm.iMAML(NET, RATE, MINIMUM, STRENGTH, products, device="numpy").fit(tasks, 0, theta=theta)
    phi = learner.adapt(batch.x_support, batch.y_support).theta
    data = batch.x_support, batch.y_support
    slopes = fm.gradient(NET, phi, batch.x_query, batch.y_query, device="numpy")[1]
    hessians = np.stack([fm.hvp(NET, phi, v, *data, device="numpy") for v in np.eye(theta.size)], axis=2)
    exact = np.linalg.solve(np.eye(theta.size) + hessians / STRENGTH, slopes[..., None])[..., 0].mean(axis=0)
    _, *solutions = learner.implicit_gradients(batch)

    def error(gradient: Any) -> float:
        return float(np.linalg.norm(gradient - exact) / np.linalg.norm(exact))

    series, short = back(batch, [phi] * products), back(batch, path(theta, batch, 64)[-products - 1 : -1])
    whole = fm.meta_gradient(NET, theta, batch, RATE, 400, device="numpy", proximal=STRENGTH).gradient
    return {
        "conjugate gradients": [error(g) for g in solutions[:products]],
        "Neumann's series": [error(g) for g in series],
        "truncated unrolling, 64 steps": [error(g) for g in short],
        "whole unrolled gradient, 400 steps": error(whole),
    }


def path(theta: Any, batch: fm.Batch, steps: int) -> list[Any]:
    """phi_0 .. phi_S of descent on the proximal objective."""
    phis = [np.tile(theta, (len(batch), 1))]
    for _ in range(steps):
        data = batch.x_support, batch.y_support
        phis.append(
            np.stack(
                [
                    phi - RATE * (slope + STRENGTH * (phi - theta))
                    for phi, slope in zip(phis[-1], fm.gradient(NET, phis[-1], *data, device="numpy")[1], strict=True)
                ]
            )
        )
    return phis


def back(batch: fm.Batch, phis: list[Any]) -> list[Any]:
    """Mean gradients by theta through the last 1 .. K of the steps at phis."""
    end = phis[-1]
    v = fm.gradient(NET, end, batch.x_query, batch.y_query, device="numpy")[1]
    total, found = np.zeros_like(v), []
    for phi in phis[::-1]:
        total = total + RATE * STRENGTH * v
        v = v - RATE * (fm.hvp(NET, phi, v, batch.x_support, batch.y_support, device="numpy") + STRENGTH * v)
        found.append(total.mean(axis=0))
    return found


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """Truncation is Neumann's series at the minimum, and conjugate gradients are ahead of both."""
    cg, series, short, whole = (np.array(value) for value in list(numbers.values())[:4])
    return {
        "conjugate gradients are ahead from the third product on": bool((cg[2:] < series[2:]).all()),
        f"truncated unrolling is Neumann's series (apart by {np.abs(short - series).max():.0e})": bool(
            np.abs(short - series).max() < 1e-2
        ),
        f"the whole unrolled proximal gradient is the implicit one ({whole:.0e})": bool(whole < 1e-6),
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Errors over products."""
    from fastmeta import plots

    lines = {name: value for name, value in numbers.items() if isinstance(value, list)}
    plots.convergence(path, lines, "Hessian-vector products", "relative error of the gradient")
