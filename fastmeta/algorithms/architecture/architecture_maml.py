"""MAML that learns which operation each layer is, and how wide, by exact gradients through its inner steps."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import checks
from fastmeta.algorithms.architecture.discrete import GATES, multiply_adds, with_operations, with_widths
from fastmeta.algorithms.architecture.mixture import Mixture
from fastmeta.algorithms.architecture.operations import OPERATIONS
from fastmeta.floating import quiet
from fastmeta.gradients.functions import meta_gradient
from fastmeta.learning.gradient_learner import GradientLearner, InnerRate, InnerSteps
from fastmeta.learning.optimizers import Adam, Optimizer
from fastmeta.learning.settings import Setting
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array

Operations = Annotated[str, Setting(str, "Candidates of each layer, between commas.")]
ArchitectureRate = Annotated[float, Setting(float, "Adam's rate of the architecture.")]
CostPenalty = Annotated[float, Setting(float, "Price of the log of expected multiply-adds.", 0)]
WidthPenalty = Annotated[float, Setting(float, "Price of the sum of |scale|, the width gates.", 0)]
FirstOrder = Annotated[bool, Setting(bool, "Take inner gradients as constants.")]


class ArchitectureMAML(GradientLearner):
    """MAML over a mixture of operations a layer: K = sum_o softmax(a)_o E_o w_o (DARTS, arXiv 1806.09055, equation 2).

    Operations of one stride are linear in x, so their mixture is one convolution of the widest kernel; inner steps move
    that kernel, and the slopes of a and w are those of it by the chain rule: exact through all inner steps.

    net: the widest network, of Conv2d layers with padding kernel // 2 (hidden Linear layers are kernels of 1 x 1).
    operations: of fastmeta.algorithms.architecture.operations.OPERATIONS, those that fit where two or more do.
    architecture_lr: of Adam on a; all else has fit's optimizer, and both learn from the same batch. cost_penalty: so
    much times log(C / the multiply-adds of net) joins the loss, C those expected where each operation is drawn with its
    probability: the loss that e times the multiply-adds would be worth elsewhere. width_penalty: where positive, scales
    of norms are width gates: no inner step moves them, and so much times the sum of their |scale| joins the loss.
    first_order: inner gradients count as constants. Other arguments and errors are MAML's.

    `architecture` shows the probabilities, `discretised` gives the network to train again, by MAML for instance.

    >>> from fastmeta import MLP, ArchitectureMAML, tasks
    >>> search = ArchitectureMAML(MLP((1, 8, 8, 1)), operations="conv1,identity", device="numpy")
    >>> list(search.fit(tasks.Sinusoid(), 2).architecture["linear2.weight"])
    ['conv1', 'identity']
    """

    word = "architecture-maml"
    recipes: ClassVar = {
        "omniglot": {"inner_lr": 0.4, "inner_steps": 1, "evaluation_steps": (1, 3)},
    }

    def __init__(
        self,
        net: Network,
        inner_lr: InnerRate = 0.01,
        inner_steps: InnerSteps = 1,
        operations: Operations = "conv1,conv3,conv5,identity",
        architecture_lr: ArchitectureRate = 0.01,
        cost_penalty: CostPenalty = 0.0,
        width_penalty: WidthPenalty = 0.0,
        first_order: FirstOrder = False,
        device: str = "cpu",
        *,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, device, loss)
        self.operations = operations
        names = operations.split(",") if isinstance(operations, str) else []
        for name in names or [operations]:
            checks.choice("operations", name, OPERATIONS)
        self.architecture_lr = checks.positive("architecture_lr", architecture_lr)
        self.cost_penalty = checks.not_negative("cost_penalty", cost_penalty)
        self.width_penalty = checks.not_negative("width_penalty", width_penalty)
        self.first_order = checks.switch("first_order", first_order)
        if len(set(names)) < len(names):
            raise ValueError(f'operations="{operations}" must name each operation once.')
        if not self.mixture.kernels and not (self.width_penalty and self._gated.any()):
            raise ValueError(
                f'operations="{operations}" must fit {net}: there is no layer in which two of them do. Give a kernel '
                "of 3 or 5 with padding kernel // 2, or other operations."
            )

    @cached_property
    def mixture(self) -> Mixture:
        """The mixed layers, and the chain rule between theta and their operations."""
        return Mixture(self.net, tuple(self.operations.split(",")))

    def optimizers(self, optimizer: Optimizer) -> dict[str, Optimizer]:
        """Adam(architecture_lr) for the architecture, `optimizer` for all else."""
        return {"theta": optimizer, "kernels": optimizer, "architecture": Adam(self.architecture_lr)}

    @quiet
    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """theta (P,), its mixed kernels unused; kernels, the weights of all operations; architecture, their a."""
        if not self.mixture.kernels:
            return {"theta": theta}
        kernels, architecture = self.mixture.first(theta)
        return {"theta": theta, "kernels": kernels, "architecture": architecture}

    @property
    def theta(self) -> Array:
        """The network's parameters (P,) before adaptation, with the mixture at the mixed kernels."""
        own = self.parameters
        if "kernels" not in own:
            return own["theta"]
        return self.mixture.theta(own["theta"], own["kernels"], own["architecture"])

    @theta.setter
    def theta(self, values: ArrayLike) -> None:
        raise AttributeError("theta follows from the mixture and cannot be set. Give it to fit(theta=...).")

    @property
    def rates(self) -> float | Array:
        """inner_lr, 0 where a scale is a width gate."""
        if not self.width_penalty:
            return self.inner_lr
        rates, gated = np.atleast_1d(np.asarray(self.inner_lr, np.float64)), self._gated
        if rates.shape[-1] == self.net.parameter_count:
            sizes = [int(np.prod(shape)) for shape in self.net.parameter_shapes.values()]
            gated = np.repeat(gated, sizes)
        return np.asarray(rates * ~gated)

    @property
    def architecture(self) -> dict[str, dict[str, float]]:
        """Of each mixed layer, by the name of its weight, the probability of each operation."""
        return self.mixture.probabilities(self.parameters["architecture"]) if self.mixture.kernels else {}

    def discretised(self, keep: float | None = None) -> Network:
        """The network of the likeliest operations; keep: of that share of the channels, those of the largest gates.

        Raises ValueError where an operation that won is no layer of a network, or nothing gates a width.
        """
        chosen = {}
        for one, (name, p) in zip(self.mixture.kernels, self.architecture.items(), strict=True):
            assert one.name == name
            chosen[one.layer] = max(p, key=lambda operation: p[operation])
        narrow = self.net if keep is None else with_widths(self.net, self.theta, keep)
        return with_operations(narrow, chosen)

    @quiet
    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean query loss after the inner steps with the prices, and its gradient by all that is learned."""
        theta = self.theta
        order = 1 if self.first_order else 2
        result = meta_gradient(
            self.net, theta, batch, self.rates, self.inner_steps, order, loss=self.loss, device=self.device
        )
        price, gradient = 0.0, result.gradient
        if self.width_penalty:
            gates = theta * np.repeat(self._gated, [np.size(v) for v in self.net.views(theta).values()])
            price = self.width_penalty * float(np.abs(gates).sum())
            gradient = gradient + theta.dtype.type(self.width_penalty) * np.sign(gates)
        if not self.mixture.kernels:
            return result.loss + price, {"theta": gradient}
        own = self.parameters
        parts = self.mixture.slopes(gradient, own["kernels"], own["architecture"])
        slopes = dict(zip(("theta", "kernels", "architecture"), parts, strict=True))
        if self.cost_penalty:
            cost, by_architecture = self.mixture.multiply_adds(own["architecture"])
            price += self.cost_penalty * math.log(cost / multiply_adds(self.net))
            slopes["architecture"] += (self.cost_penalty * by_architecture / cost).astype(theta.dtype)
        return result.loss + price, slopes

    @property
    def _gated(self) -> Array:
        """(V,): whether each parameter array is the scale of a norm."""
        gated = []
        for layer in self.net.layers:
            gated += [isinstance(layer, GATES) and i == 0 for i in range(layer.parameter_arrays)]
        return np.array(gated)
