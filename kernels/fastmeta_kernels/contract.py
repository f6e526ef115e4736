"""What a backend is: the signature, shapes and meaning of every task-level kernel, once.

T tasks, N samples of a set, P parameters, O outputs, S inner steps, V parameter arrays. Every array of one call
has one float dtype (float32 or float64), is C-contiguous and is never modified. Inputs are valid: the public
door checks them. `x` is (T, N, H, W, C) or (T, N, F). `y` is what the set's loss asks for: (T, N) int64 labels, or
(T, N, O) floats. `weights` (T, N) multiply each sample's loss, None means ones.
A set's loss is the mean over its samples (and outputs, where `y` has some) of weight * loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.layer_table import CROSS_ENTROPY, SQUARED_ERROR, Table

Array = NDArray[Any]


class DeviceError(RuntimeError):
    """This machine has no device, or no driver, that can run a backend; the message says which, and what to do."""


class Loss(NamedTuple):
    """What a set's outputs are asked for: a number of `layer_table`, and the numbers of its equation, if it has any."""

    kind: int
    constants: tuple[float, ...] = ()


class TaskSet(NamedTuple):
    """The support or query sets of T tasks."""

    x: Array  # (T, N, H, W, C) or (T, N, F)
    y: Array  # (T, N) int64 or (T, N, O)
    weights: Array | None = None  # (T, N)
    loss: Loss | None = None  # None: cross-entropy of integers, mean squared error of floats
    log_probs: Array | None = None  # (T, N) of actions when they were drawn, where the loss has a ratio


def loss_of(data: TaskSet) -> Loss:
    """The loss of a set: its own, else what its targets mean."""
    return data.loss or Loss(SQUARED_ERROR if data.y.dtype.kind == "f" else CROSS_ENTROPY)


class StepParameters(NamedTuple):
    """Parameter arrays that have a value of their own in each of phi_0 .. phi_S, which no inner step moves."""

    blocks: tuple[int, ...]  # which of the V parameter arrays, ascending
    values: Array  # (S + 1, B): row k is put into phi_k, array by array; theta's own are not used


class InnerLoop(NamedTuple):
    """Gradient descent: phi_{k+1} = phi_k - m alpha_k grad L(phi_k), k = 0 .. steps - 1.

    pulls: weight decay d and proximal term p, with which grad L(phi_k) has d phi_k + p (phi_k - theta) beside it.
    """

    steps: int
    rates: Array  # alpha: (1 or steps, R), R = 1, V (one per parameter array) or P
    adapted: tuple[int, int]  # m: only theta[start:stop] moves
    step_parameters: StepParameters | None = None
    pulls: tuple[float, float] | None = None


class MetaGradientArrays(NamedTuple):
    """Means over tasks, but for the losses."""

    query_losses: Array  # (T,) at phi_S, or their weighted sum over phi_0 .. phi_S
    support_losses: Array  # (T, S) before each inner step
    gradient: Array  # (P,) d mean query loss / d theta
    rates_gradient: Array  # d mean query loss / d alpha, the shape of rates
    step_parameters_gradient: Array = np.zeros((0, 0))  # d mean query loss / d step_parameters.values, of their shape
    task_gradients: Array = np.zeros((0, 0))  # (T, P) of which `gradient` is the mean, where they are asked for
    weights_gradient: Array = np.zeros((0, 0))  # (T, N) d mean query loss / d support weights, where it is asked for
    pulls_gradient: Array = np.zeros(0)  # (2,) d mean query loss / d pulls, where there are any


class PrototypeHead(NamedTuple):
    """How logits come from embeddings and the K class means ("prototypes") of a support set."""

    ways: int  # K
    metric: str = "euclidean"  # -|q - c|^2; or "cosine": scale * cos(q, c)
    scale: float = 10.0  # of "cosine" only


class PrototypeLoss(NamedTuple):
    """Cross-entropy of the query embeddings, a mean over each task's, and its gradient."""

    losses: Array  # (T,)
    logits: Array  # (T, M, K)
    d_support: Array  # (T, N, D)
    d_query: Array  # (T, M, D)


class Backend(Protocol):
    """A module with these functions. theta is (P,), shared by all tasks, or (T, P), one for each."""

    def on_device(self, values: Any) -> Any:
        """`values` where the backend computes: without a copy where they lie there, and NumPy's on the host."""
        ...

    def on_host(self, values: Any) -> Any:
        """`values` as NumPy's where they are the backend's, or else as they are."""
        ...

    def is_own(self, value: Any) -> bool:
        """Whether `value` is an array that lies where the backend computes."""
        ...

    def free_bytes(self) -> int:
        """Memory that arrays on the device can still get."""
        ...

    def predict(self, table: Table, theta: Array, x: Array) -> Array:
        """Outputs (T, N, O). Batch norm uses the statistics of the N samples at hand (transductive)."""
        ...

    def loss(self, table: Table, theta: Array, data: TaskSet) -> Array:
        """Losses (T,)."""
        ...

    def gradient(self, table: Table, theta: Array, data: TaskSet) -> tuple[Array, Array]:
        """Losses (T,) and d loss / d theta (T, P)."""
        ...

    def hvp(self, table: Table, theta: Array, v: Array, data: TaskSet) -> Array:
        """Hessian-vector products H v (T, P); v is (P,) or (T, P)."""
        ...

    def fisher(self, table: Table, theta: Array, v: Array, data: TaskSet) -> Array:
        """F v (T, P), F the Hessian of the mean KL of policies from themselves by theta; v is (P,) or (T, P).

        `data` has the loss of the policies and weights; its targets are not used.
        """
        ...

    def products(self, kind: str, table: Table, theta: Array, data: TaskSet) -> Callable[[Array], Array]:
        """v (T, P) -> H v of kind "hvp", F v of kind "fisher" (T, P), for many v at one theta (T, P).

        `data` may have B T sets: of B equal parts of each task, whose mean is taken. Where a backend can, it keeps the
        passes at theta, as long as the function lives: the arrays may not change meanwhile, and no two threads of
        Python may call it at once.
        """
        ...

    def adapt(self, table: Table, theta: Array, support: TaskSet, inner: InnerLoop) -> tuple[Array, Array]:
        """Adapted parameters phi_S (T, P) and support losses (T, S) before each step."""
        ...

    def meta_gradient(
        self,
        table: Table,
        theta: Array,
        support: TaskSet,
        query: TaskSet,
        inner: InnerLoop,
        order: int = 2,
        memory: str = "auto",
        loss_weights: Array | None = None,
        each_task: bool = False,
        each_weight: bool = False,
    ) -> MetaGradientArrays:
        """Gradient of the mean query loss after the inner loop (MAML, arXiv 1703.03400, equation 1).

        loss_weights (S + 1,): the query loss is sum_k w_k Q(phi_k) (MAML++, arXiv 1810.09502, equation 4), by
        default Q(phi_S). order 2 is exact; order 1 treats inner gradients as constants (FOMAML) in all its
        gradients, so that v_k is the same at every step but for the w_k grad Q(phi_k). memory "stash" keeps
        every step's activations, "recompute" only its parameters, "auto" chooses by size; the bits are the same.
        each_task asks for the gradient of each task, each_weight, of order 2, for that by the support weights (ones
        where there are none).
        """
        ...

    def block_gradients(
        self,
        table: Table,
        theta: Array,
        support: TaskSet,
        query: TaskSet,
        inner: InnerLoop,
        blocks: Sequence[tuple[int, int]],
        order: int = 2,
        memory: str = "auto",
        loss_weights: Array | None = None,
    ) -> MetaGradientArrays:
        """`meta_gradient` of each block of tasks begin .. end - 1: means (B, ...) over its tasks, on the host.

        Blocks stand behind each other, from the first task to the last. The bits of each do not depend on the others.
        """
        ...

    def pullback(self, table: Table, theta: Array, x: Array, d_outputs: Array) -> Array:
        """Vector-Jacobian products (T, P): the gradients of sum(outputs * d_outputs); d_outputs is (T, N, O)."""
        ...

    def prototype_loss(
        self, support: Array, y_support: Array, query: Array, y_query: Array, head: PrototypeHead
    ) -> PrototypeLoss:
        """Prototypical networks' loss of embeddings (T, N, D) and (T, M, D) (arXiv 1703.05175, equations 1 and 2).

        Labels (T, N) and (T, M) are int64 in 0 .. ways-1; every class has a support sample. A vector whose squared
        norm is below the smallest normal number has cosine 0 with every other, and gradient 0.
        """
        ...

    def prototype_gradient(
        self, table: Table, theta: Array, data: TaskSet, support: int, head: PrototypeHead
    ) -> tuple[Array, Array]:
        """Losses (T,) and gradients (T, P) of a network that embeds.

        Of each task in `data`, labelled and without weights, the first `support` samples are the support set and the
        rest the query set. They pass together, so batch norm uses the statistics of both.
        """
        ...
