"""Implicit MAML: the meta-gradient of the inner problem's solution, whatever led to it (Rajeswaran et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np

from fastmeta import checks
from fastmeta.floating import no_overflow, overflows
from fastmeta.gradients import functions as gradients
from fastmeta.gradients.conjugate_gradients import conjugate_gradients
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.learning.gradient_learner import INNER_RATE, GradientLearner, InnerSteps
from fastmeta.learning.inner_steps import naming_step
from fastmeta.learning.query_norms import QueryBatchNorm
from fastmeta.learning.settings import Setting
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array

PROXIMAL = ("inner", "after")


class iMAML(GradientLearner):
    """A task minimises L(phi) + regularization / 2 |phi - theta|^2 (arXiv 1909.04630, equation 3).

    That is done by `inner_steps` of gradient descent. At the minimum d phi / d theta = (I + H / regularization)^-1, H
    the Hessian of L there, so that the meta-gradient solves (I + H / regularization) g = grad Q(phi) (lemma 1), which
    is done by `cg_steps` of conjugate gradients on Hessian-vector products. Memory does not depend on inner_steps,
    and neither do the path to phi nor its rate enter. The gradient is as exact as phi is near the minimum and the
    conjugate gradients are near their solution: a larger regularization makes both quicker.

    Two switches lead from here to the authors' program (aravindr93/imaml_dev), which does not solve the inner problem.
    `cg_damping`: the system is (I + H / (regularization + cg_damping)) g = grad Q(phi), in which negative curvature
    weighs less; theirs, 2 g + H g / (regularization + 10), is cg_damping = regularization + 20. `proximal="after"`: the
    inner steps descend on L alone, in `adapt` and `evaluate` too, and in training one step on the proximal term,
    phi - inner_lr regularization (phi - theta), follows them; with "inner" each step has that term.

    inner_lr: a number; loss and query_batch_norm as in MAML. Raises ValueError or TypeError where an argument is out
    of range, DivergenceError where training diverges.

    >>> from fastmeta import MLP, iMAML, tasks
    >>> imaml = iMAML(MLP((1, 40, 40, 1)), inner_lr=0.05, regularization=0.5, device="numpy")
    >>> imaml.fit(tasks.Sinusoid(), iterations=2).evaluate(tasks.Sinusoid(), episodes=4).measure
    'mse'
    """

    recipes: ClassVar = {
        "sinusoid": {"inner_steps": 16, "regularization": 0.5, "cg_steps": 5, "evaluation_steps": (0, 5, 16)},
        "omniglot": {  # the authors' program, not the paper's equations
            "inner_lr": 0.1,
            "inner_steps": 16,
            "regularization": 2.0,
            "cg_steps": 5,
            "cg_damping": 22.0,
            "proximal": "after",
            "evaluation_steps": (16,),
        },
        "omniglot, 20 ways": {"inner_steps": 25, "evaluation_steps": (25,)},
        "images": {"inner_lr": 0.1, "inner_steps": 10, "regularization": 0.5, "cg_steps": 5},
    }
    gpu_parameters = ("theta",)

    def __init__(
        self,
        net: Network,
        inner_lr: Annotated[float, INNER_RATE] = 0.01,
        inner_steps: InnerSteps = 16,
        regularization: Annotated[float, Setting(float, "How strongly a task stays near the start.")] = 2.0,
        cg_steps: Annotated[int, Setting(int, "Conjugate-gradient steps.")] = 5,
        cg_damping: Annotated[float, Setting(float, "Added to the regularization in their system.", 0)] = 0.0,
        proximal: Annotated[
            str, Setting(PROXIMAL, "When a task goes back to its start: at each step or once.")
        ] = "inner",
        device: str = "cpu",
        *,
        loss: Loss | None = None,
        query_batch_norm: QueryBatchNorm = None,
    ) -> None:
        super().__init__(net, checks.positive("inner_lr", inner_lr), inner_steps, device, loss, query_batch_norm)
        self.regularization = checks.positive("regularization", regularization)
        self.cg_steps = checks.integer("cg_steps", cg_steps, 1)
        self.cg_damping = checks.not_negative("cg_damping", cg_damping)
        self.proximal = checks.choice("proximal", proximal, PROXIMAL)
        if proximal == "after" and inner_lr * regularization > 1:
            raise ValueError(
                f"regularization={regularization} must be at most 1 / inner_lr = {1 / inner_lr:.6g} "
                'with proximal="after": the step back would pass theta. Lower one of them.'
            )

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean query loss at phi, and the implicit gradient by theta."""
        try:
            with overflows():
                loss, *_, gradient = self.implicit_gradients(batch)
        except FloatingPointError as error:
            raise checks.DivergenceError(
                "the conjugate gradients overflow: phi is far from a minimum. Raise regularization, or halve inner_lr."
            ) from error
        return loss, {"theta": gradient}

    def implicit_gradients(self, batch: Batch) -> Iterator[Any]:
        """First the mean query loss at phi, then the gradient (P,) after each of the conjugate-gradient steps."""
        support, query = batch_sets(self.net, batch, self.theta.dtype, self.device, self.loss)
        (phi,) = self.descend(*support[:3], [self.inner_steps])
        if self.proximal == "after":
            phi = phi - self.inner_lr * self.regularization * (phi - self.theta)
        scale = self.regularization + self.cg_damping
        if self.query_batch_norm == "frozen":
            from fastmeta.gradients.frozen_query import query_gradient

            losses, slopes = query_gradient(self.net, phi, support.x, query, self.device)
        else:
            losses, slopes = gradients.gradient(self.net, phi, *query[:3], loss=self.loss, device=self.device)
        yield float(losses.mean(dtype=np.float64))

        def product(v: Array) -> Array:
            return v + gradients.hvp(self.net, phi, v, *support[:3], loss=self.loss, device=self.device) / scale

        for solution in conjugate_gradients(product, slopes, self.cg_steps):
            yield solution.mean(axis=0)

    def descend(
        self, x: Array, y: Array, weights: Any, steps: Sequence[int], batch_norm: str = "transductive"
    ) -> Iterator[Array]:
        """Parameters, (P,) or (T, P), after each of the ascending numbers of inner steps from theta."""
        if self.proximal == "after":
            yield from super().descend(x, y, weights, steps, batch_norm)
            return
        phi = theta = self.theta
        for k in range(steps[-1] + 1):
            if k in steps:
                yield phi
            if k < steps[-1]:
                with naming_step(k + 1, steps[-1]):
                    _, slopes = gradients.gradient(self.net, phi, x, y, weights, loss=self.loss, device=self.device)
                    phi = phi - self.inner_lr * (slopes + self.regularization * (phi - theta))
                    no_overflow(phi)
