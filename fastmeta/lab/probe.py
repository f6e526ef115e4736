"""The instruments through a training: a callback of `fit` that looks at the learner every so many iterations."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.gradients.steps import descend, rates_by_parameter
from fastmeta.lab.backward_sweep import backward, cosine
from fastmeta.lab.plain_steps import plain_steps
from fastmeta.lab.sharpness import first_vectors, sharpness
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.inner_steps import step_rates
from fastmeta.tasks.episode import TaskSource

Array = NDArray[Any]
MEASURES = ("cosine", "sharpness", "snr", "adaptation")


class Probe:
    """A callback for `fit`: every `every` iterations the same tasks are measured, and the training is left as it is.

    learner: the gradient learner that is fitted. tasks: where the `tasks_per_probe` tasks are drawn, once, as
    tasks.sample(tasks_per_probe, seed=seed). what: "cosine" of FOMAML's gradient with the exact one, and their "norm
    ratio"; "sharpness", the largest and the median alpha lambda_max at theta and at the last phi; "snr" of the tasks'
    gradients; "adaptation", the query loss before and after the inner steps. `records` holds one dict a probe.
    Training, its history and its resumption have the same bits as without a probe. Raises TypeError where the learner
    does not take plain gradient steps, ValueError where its query loss has frozen batch norm.

    >>> from fastmeta import MAML, MLP, lab, tasks
    >>> maml = MAML(MLP((1, 8, 1), "tanh"), inner_lr=0.01)
    >>> probe = lab.Probe(maml, tasks.Sinusoid(), every=10, what=("cosine", "adaptation"))
    >>> _ = maml.fit(tasks.Sinusoid(), 20, callback=probe)
    >>> [record["iteration"] for record in probe.records]
    [1, 10, 20]
    """

    def __init__(
        self,
        learner: GradientLearner,
        tasks: TaskSource,
        every: int = 100,
        what: Sequence[str] = MEASURES,
        *,
        tasks_per_probe: int = 4,
        products: int = 8,
        seed: int = 1,
    ) -> None:
        self.learner = plain_steps(learner)
        self.every = checks.integer("every", every, 1)
        self.what = tuple(checks.choice("what", name, MEASURES) for name in what)
        self.products = checks.integer("products", products, 1)
        self.batch = tasks.sample(checks.integer("tasks_per_probe", tasks_per_probe, 1), seed=seed)
        self.records: list[dict[str, float]] = []
        self._first = self._first_vectors(np.dtype("float32"))

    def __call__(self, iteration: int, loss: float) -> None:
        """Measure, where this iteration, counted from 1, is the first or a multiple of `every`."""
        if iteration == 1 or iteration % self.every == 0:
            begin = time.perf_counter()
            record = {"iteration": iteration, "loss": loss} | self.measure()
            self.records.append(record | {"seconds": time.perf_counter() - begin})

    @quiet
    def measure(self) -> dict[str, float]:
        """What `what` asks for, of the learner as it is."""
        learner, batch, found, device = self.learner, self.batch, dict[str, float](), self.learner.device
        net, theta, steps, loss = learner.net, np.asarray(learner.theta), learner.inner_steps, learner.loss
        rates = rates_by_parameter(net, step_rates(learner.rates, 0, steps), steps, learner.adapts, theta.dtype)
        support: tuple[Any, ...] = (batch.x_support, batch.y_support, batch.support_weights)
        query = (batch.x_query, batch.y_query, batch.query_weights)
        if {"cosine", "snr"} & set(self.what):
            sweep = backward(net, theta, [support] * steps, query, rates, device, loss)
            phis, losses = sweep.phis, sweep.query_losses
            if "cosine" in self.what:
                first, exact = sweep.first_order, sweep.exact
                found["cosine"] = cosine(first, exact)
                found["norm ratio"] = float(np.linalg.norm(first) / np.linalg.norm(exact))
            if "snr" in self.what:
                found["snr"] = sweep.snr
        else:
            phis = np.stack(descend(net, theta, [support] * steps, rates, len(batch), device, loss).phis)
            losses = gradients.loss(net, phis[-1], *query, loss=loss, device=device)
        if "sharpness" in self.what:
            if (self._first.shape, self._first.dtype) != (phis.shape, phis.dtype):
                self._first = self._first_vectors(phis.dtype)
            sharp = sharpness(net, phis, np.abs(rates), support, self.products, self._first, device, loss).largest
            found |= {"sharpness": _median(sharp[0]), "largest sharpness": float(sharp.max())}
            found["sharpness after"] = _median(sharp[-1])
        if "adaptation" in self.what:
            found["loss before"] = float(gradients.loss(net, theta, *query, loss=loss, device=device).mean())
            found["loss after"] = float(losses.mean())
        return found

    def _first_vectors(self, dtype: Any) -> Array:
        """Where Lanczos starts at each phi of each task."""
        net, steps = self.learner.net, self.learner.inner_steps
        return first_vectors((steps + 1, len(self.batch), net.parameter_count), dtype, 0)

    def table(self) -> str:
        """One line a probe."""
        names = list(self.records[0]) if self.records else []
        lines = ["  ".join(f"{name:>17}" for name in names)]
        return "\n".join([*lines, *("  ".join(f"{r[n]:17.4g}" for n in names) for r in self.records)])

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG with a panel a measure. Raises ValueError before the first probe."""
        from fastmeta import plots
        from fastmeta.lab import pictures

        if not self.records:
            raise ValueError("nothing has been probed yet. Give the probe to fit as its callback.")
        at = np.array([r["iteration"] for r in self.records])
        groups = (("cosine", "norm ratio"), ("sharpness", "largest sharpness"), ("snr",), ("loss before", "loss after"))
        shown = [[name for name in group if name in self.records[0]] for group in groups]
        shown = [group for group in shown if group]
        figure = plots.new_figure(4.5 * len(shown), 3.6)
        for axes, group in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            curves = {name: np.array([r[name] for r in self.records]) for name in group}
            level = 2.0 if "sharpness" in group else None
            pictures.draw_curves(axes, at, curves, "iteration", level=level)
        plots.save(figure, os.fspath(path))


def _median(values: Array) -> float:
    """np.median of a few values (n,), in less time."""
    ordered = sorted(values.tolist())
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
