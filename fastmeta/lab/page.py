"""The standard report of a trained gradient learner: every instrument once, as one page with one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmeta.checks import integer
from fastmeta.lab.backward_sweep import Trace, trace
from fastmeta.lab.eigenvalues import Spectrum, spectrum
from fastmeta.lab.head_orders import Permutations, permutations
from fastmeta.lab.meta_hessian import meta_hvp
from fastmeta.lab.plain_steps import plain_steps
from fastmeta.lab.representations import Similarity, similarity
from fastmeta.lab.rounding import Precision, precision
from fastmeta.lab.sharpness import InnerSpectrum, inner_spectrum
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.inner_steps import step_rates
from fastmeta.scores.score import Score
from fastmeta.tasks.episode import TaskSource

MOST_WORK = 2e8  # samples x parameters x steps of one meta-gradient, up to which meta-Hessian products take a minute


@dataclass(frozen=True)
class Report:
    """What `report` found. `page()` is Markdown; `plot(path)` writes its picture."""

    title: str
    gain: dict[int, Score]  # inner steps -> score: without adaptation, and after it
    sweep: Trace
    sharpness: InnerSpectrum
    meta_spectrum: Spectrum | None  # None where the products would take too long
    layers: Similarity
    rounding: Precision
    orders: Permutations | None  # None for regressions

    def page(self, picture: str = "lab.png") -> str:
        """The report in Markdown, with the picture's file name."""
        before, after = (self.gain[steps] for steps in (min(self.gain), max(self.gain)))
        parts = [f"# {self.title}", f"![What the instruments saw]({picture})", "## What adaptation gains"]
        parts += [f"Without adaptation {before}, after {max(self.gain)} inner steps {after}."]
        parts += ["## The gradient through the last m inner steps", _block(self.sweep.table())]
        parts += ["FOMAML beside the exact gradient, by array:", _block(self.sweep.table(by="array"))]
        parts += [f"Signal to noise of {len(self.sweep.tasks)} tasks' gradients: {self.sweep.snr:.3g}, that is a "]
        parts[-1] += f"meta-batch of about {max(1, round(1 / self.sweep.snr)):,} for as much signal as noise."
        parts += ["## Sharpness of the inner steps", "Above 2 a step of gradient descent overshoots."]
        parts += [_block(self.sharpness.table())]
        if self.meta_spectrum is not None:
            top, low = self.meta_spectrum.largest, self.meta_spectrum.smallest
            parts += ["## Spectrum of the meta-loss", f"Largest eigenvalue {top:.4g}, smallest {low:.4g}."]
        parts += ["## What adaptation changes in each layer", _block(self.layers.table())]
        parts += ["## What float32 costs", _block(self.rounding.table())]
        if self.orders is not None:
            parts += ["## Which row of the head a class is given", _block(self.orders.table())]
        return "\n\n".join(parts) + "\n"

    def plot(self, path: str) -> None:
        """Write a PNG of four panels. Raises ModuleNotFoundError where Matplotlib is missing."""
        from fastmeta import plots
        from fastmeta.lab import pictures

        figure = plots.new_figure(11.0, 7.5)
        (a, b), (c, d) = figure.subplots(2, 2)
        steps = np.arange(len(self.sweep.sweep))
        curves = {"relative error": self.sweep.errors(), "cosine": self.sweep.cosines()}
        pictures.draw_curves(a, steps, curves, "inner steps that the gradient goes back through")
        sharp = self.sharpness.largest
        curves = {"median over tasks": np.median(sharp, axis=1), "largest": sharp.max(axis=1)}
        pictures.draw_curves(b, steps, curves, "inner steps done", ylabel="alpha lambda_max", level=2.0)
        pictures.draw_bars(c, self.layers.layers, {"CKA": self.layers.cka}, "similarity before and after")
        errors = {"meta-gradient": self.rounding.gradient, "query loss": self.rounding.loss}
        pictures.draw_curves(d, self.rounding.steps, errors, "inner steps", ylabel="error of float32", log=True)
        plots.save(figure, path)


def report(learner: GradientLearner, tasks: TaskSource, episodes: int = 100, *, seed: int = 1) -> Report:
    """Every instrument once, on tasks drawn with `seed`; `episodes` for scores, 16 tasks for gradients.

    Raises TypeError where the learner does not take plain gradient steps, ValueError where its query loss has frozen
    batch norm.
    """
    plain_steps(learner)
    integer("episodes", episodes, 1)
    net, steps, batch = learner.net, learner.inner_steps, tasks.sample(16, seed=seed)
    theta = np.asarray(learner.theta, np.float64)
    rates = step_rates(learner.rates, 0, steps)
    loop: dict[str, Any] = {"inner_lr": rates, "inner_steps": steps, "adapt": learner.adapts}
    loop["loss"] = learner.loss
    (phi,) = learner.descend(batch.x_support, batch.y_support, batch.support_weights, [steps])
    shared = float(rates) if np.ndim(rates) == 0 else np.asarray(rates)[:1] if np.ndim(rates) == 2 else rates
    work = batch.x_support.shape[1] * net.parameter_count * (steps + 1) * len(batch)
    classifies = batch.y_query.dtype.kind in "iu"
    return Report(
        f"{type(learner).__name__} after {learner.training.step:,} iterations",
        learner.evaluate(tasks, episodes, [0, steps], seed=seed),
        trace(net, theta, batch, **loop, device=learner.device),
        inner_spectrum(
            net, theta, batch, np.abs(rates), steps, learner.adapts, loss=learner.loss, device=learner.device
        ),
        None if work > MOST_WORK else spectrum(lambda v: meta_hvp(net, theta, v, batch, **loop), theta.size, 15),
        similarity(net, theta, phi, batch.x_query),
        precision(net, theta, batch, shared, (1, 5, 10), learner.adapts, loss=learner.loss, device=learner.device),
        permutations(learner, tasks, min(episodes, 20), seed=seed) if classifies else None,
    )


def _block(table: str) -> str:
    return f"```text\n{table}\n```"
