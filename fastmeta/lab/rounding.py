"""What float32 costs: the meta-gradient against float64's, by the number of inner steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks, inputs
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.lab.central_differences import kink_pattern
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch

Array = NDArray[Any]


@dataclass(frozen=True)
class Precision:
    """Relative errors of float32 by inner steps."""

    steps: tuple[int, ...]
    gradient: Array  # (n,): |g32 - g64| / |g64|
    loss: Array  # (n,): of the mean query loss
    kinks: Array  # (n,): ReLU sides and max-pool places after the last step that differ between the two

    def table(self) -> str:
        """One line a number of steps."""
        rows = zip(self.steps, self.gradient, self.loss, self.kinks, strict=True)
        lines = ["inner steps  meta-gradient     loss  kinks that differ"]
        return "\n".join(lines + [f"{s:11d}  {g:13.1e}  {q:7.1e}  {k:17d}" for s, g, q, k in rows])

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG of the errors. Raises ModuleNotFoundError without Matplotlib."""
        from fastmeta.lab import pictures

        curves = {"meta-gradient": self.gradient, "query loss": self.loss}
        pictures.curves(
            os.fspath(path), self.steps, curves, "inner steps", ylabel="relative error of float32", log=True
        )


@quiet
def precision(
    net: Network,
    theta: Array,
    batch: Batch,
    inner_lr: Any = 0.01,
    steps: Sequence[int] = (1, 5, 50),
    adapt: str = "all",
    *,
    loss: Loss | None = None,
    device: str = "cpu",
) -> Precision:
    """The meta-gradient in float32 and in float64 from the same theta (rounded to float32) after each of `steps`.

    An error that grows by a constant factor a step is the inner loop's own (its Lyapunov exponent): look at
    `inner_spectrum`. inner_lr: a number or rates that all inner steps share.
    """
    counts = tuple(checks.integer("steps", s, 0) for s in steps)
    single = inputs.parameters(net, inputs.array("theta", theta).astype(np.float32))
    double = single.astype(np.float64)
    found = []
    for count in counts:
        low = gradients.meta_gradient(net, single, batch, inner_lr, count, adapt=adapt, loss=loss, device=device)
        high = gradients.meta_gradient(net, double, batch, inner_lr, count, adapt=adapt, loss=loss, device=device)
        error = np.linalg.norm(low.gradient - high.gradient) / np.linalg.norm(high.gradient)
        sides = [_sides(net, t, batch, inner_lr, count, adapt, loss, device) for t in (single, double)]
        kinks = int((sides[0] != sides[1]).sum())
        found.append((error, abs(low.loss - high.loss) / abs(high.loss), kinks))
    errors, losses, kinks_found = zip(*found, strict=True)
    return Precision(counts, np.array(errors), np.array(losses), np.array(kinks_found))


def _sides(
    net: Network, theta: Array, batch: Batch, inner_lr: Any, steps: int, adapt: str, loss: Loss | None, device: str
) -> Array:
    """Which side every ReLU and max-pool is on after the inner steps, on the query set."""
    support = (batch.x_support, batch.y_support)
    phi = gradients.adapt(net, theta, *support, inner_lr, steps, adapt, batch.support_weights, loss=loss, device=device)
    x = inputs.samples(net, batch.x_query, theta.dtype)
    return np.frombuffer(kink_pattern(net.table, phi, x), np.uint8)
