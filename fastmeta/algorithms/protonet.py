"""ProtoNet: a class is the mean embedding of its samples (Snell, Swersky & Zemel 2017)."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.gradients import prototypes
from fastmeta.learning.adapted_model import AdaptedModel
from fastmeta.learning.learner import Learner
from fastmeta.learning.optimizers import Adam, Optimizer
from fastmeta.learning.schedules import StepSchedule
from fastmeta.learning.settings import Setting
from fastmeta.learning.support import support
from fastmeta.networks.frozen_norms import frozen
from fastmeta.networks.layers import BatchNorm
from fastmeta.networks.network import Network
from fastmeta.scores import evaluation
from fastmeta.scores.score import Score
from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta_kernels.contract import Array, PrototypeHead, TaskSet


class ProtoNet(Learner):
    """Prototypical networks (arXiv 1703.05175, algorithm 1): learn an embedding in which classes are their means.

    net: the embedding, such as Conv4(..., outputs=None) or an MLP. A query belongs to the class of the most
    similar prototype: metric="euclidean" is minus the squared distance, "cosine" is scale * cosine. Nothing
    depends on the number of classes: train with more of them than you evaluate with, on tasks of their own.
    Batch norm is transductive: support and query samples pass together, as in the authors' training code.
    device: "cpu" (Numba) or "numpy".

    Raises ValueError or TypeError where an argument is out of range, where labels are not whole numbers or a class
    has no support sample; DivergenceError where training diverges.

    >>> from fastmeta import MLP, tasks
    >>> x, y = np.random.default_rng(0).random((60, 8)), np.repeat(np.arange(6), 10)
    >>> protonet = ProtoNet(MLP((8, 16, 4)), device="numpy")
    >>> protonet.fit(tasks.from_arrays(x, y, ways=6, shots=2, queries=5), iterations=2, tasks_per_step=1)
    ProtoNet(MLP(sizes=(8, 16, 4)), metric=euclidean, scale=10.0)
    >>> protonet.evaluate(tasks.from_arrays(x, y, ways=3, shots=2, queries=5), episodes=4).measure
    'accuracy'
    """

    batch_norm_modes = ("transductive", "frozen")
    network_outputs = "embedding"
    training_sizes = ("ways", "shots")
    recipes: ClassVar = {
        "omniglot": {"tasks_per_step": 1, "queries": 5, "train_ways": 60},
        "images": {"tasks_per_step": 1, "train_ways": 30},
        "images, 5 shots": {"train_ways": 20},
    }
    gpu_parameters = ("theta",)

    def __init__(
        self,
        net: Network,
        metric: Annotated[str, Setting(prototypes.METRICS, "Similarity to a prototype.")] = "euclidean",
        scale: Annotated[float, Setting(float, "Times the cosine, with that metric.")] = 10.0,
        device: str = "cpu",
    ) -> None:
        super().__init__(net, device)
        self.metric, self.scale = prototypes.similarity(metric, scale)

    def paper_optimizer(self, learning_rate: float, iterations: int) -> Optimizer:
        """Adam whose rate is halved after each 2,000 updates."""
        return Adam(StepSchedule(learning_rate, 0.5, 2000))

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean query loss over the tasks, and its gradient by theta."""
        y_support, head = self._labels(batch)
        prototypes.check_queries(batch.y_query, head.ways)
        y = np.concatenate([y_support, batch.y_query], axis=1, dtype=np.int64)
        x = inputs.samples(self.net, _together(batch), self.theta.dtype, device=self.device)
        data = TaskSet(x, y)
        backend = devices.backend(self.device)
        losses, slopes = backend.prototype_gradient(self.net.table, self.theta, data, y_support.shape[1], head)
        if not np.isfinite(losses).all():
            raise checks.DivergenceError(
                "the loss is not finite: theta or the data are too large. Lower the optimizer's rate or scale the data."
            )
        return float(losses.mean(dtype=np.float64)), {"theta": slopes.mean(axis=0)}

    @quiet
    def adapt(self, x_support: Any, y_support: Any, batch_norm: str | None = None) -> PrototypeModel:
        """A model of the task of which x (N, ...) and labels (N,), 0 .. ways-1, are samples; or of (T, N, ...).

        Labels may be names; x may be pictures, paths or arrays of any size, where the learner was trained on such.
        The model's `distance(x)` is how far a sample is from the nearest class. batch_norm as in `evaluate`.
        """
        mode = self.batch_norm_mode(batch_norm)
        given = support(x_support, y_support, self.preparation)
        x = given.x
        single = inputs.is_single(self.net, x)
        labels = prototypes.labels(given.y, "y_support", x.shape[: 1 if single else 2])
        labels = labels[None] if single else labels
        head = PrototypeHead(prototypes.ways(labels), self.metric, self.scale)
        x = inputs.samples(self.net, x, self.theta.dtype, "x_support")
        net, theta = frozen(self.net, self.theta, x, self.device) if mode == "frozen" else (self.net, self.theta)
        return given.told(PrototypeModel(net, theta, True, self.device, x_support=x, y_support=labels, head=head))

    def evaluate(
        self,
        tasks: TaskSource,
        episodes: int = 600,
        *,
        seed: int = 1,
        tasks_per_step: int = 25,
        batch_norm: str | None = None,
        ranks: str | None = None,
    ) -> Score:
        """As every learner's. batch_norm: whose statistics the embeddings use: "transductive" (by default), those of
        the support and query set together; or "frozen", those of the support set alone.
        """
        mode = self.batch_norm_mode(batch_norm)
        if mode != "frozen":
            return super().evaluate(tasks, episodes, seed=seed, tasks_per_step=tasks_per_step, ranks=ranks)

        def outputs(batch: Batch, steps: Any) -> list[Array]:
            return [self.adapt(batch.x_support, self._labels(batch)[0], mode).outputs(batch.x_query)]

        given = tasks, episodes, [0], seed, tasks_per_step, self.loss, ranks, self, mode
        return evaluation.episode_values(outputs, *given).score(0, mode)

    def query_outputs(self, batch: Batch) -> Array:
        """Logits (T, M, K) of the query sets, embedded together with the support sets."""
        y_support, head = self._labels(batch)
        z = self.net.predict(self.theta, _together(batch), device=self.device)
        n = y_support.shape[1]
        return prototypes.logits(z[:, :n], y_support, z[:, n:], head, self.device)

    def _labels(self, batch: Batch) -> tuple[Array, PrototypeHead]:
        if batch.y_support.dtype.kind == "f" or batch.support_weights is not None or batch.query_weights is not None:
            raise ValueError("ProtoNet needs tasks with integer labels and without weights; these have others.")
        y = np.require(batch.y_support, np.int64, ("C", "A"))
        return y, PrototypeHead(prototypes.ways(y), self.metric, self.scale)


class PrototypeModel(AdaptedModel, kw_only=True):
    """A support set, embedded: `outputs` are the similarities of samples to its `prototypes`.

    Batch norm is transductive: what is handed in passes through the network together with the support set, unless
    `net` has its statistics frozen.
    """

    algorithm: ClassVar = "ProtoNet"
    x_support: Array  # (T, N, ...)
    y_support: Array  # (T, N)
    head: PrototypeHead

    @cached_property
    @quiet
    def prototypes(self) -> Array:
        """Class means (T, K, D) of the support set, embedded by itself."""
        z = self.net.predict(self.theta, self.x_support, device=self.device)
        return np.asarray(prototypes.averaging(self.y_support, self.head.ways, z.dtype) @ z)

    @quiet
    def _outputs(self, x: ArrayLike) -> Array:
        """Logits (M, K) of x (M, ...), or (T, M, K) of x (T, M, ...) where T support sets were given."""
        given = inputs.array("x", x)
        x = inputs.samples(self.net, given, self.theta.dtype)
        if len(x) != len(self.x_support):
            raise ValueError(f"x has {len(x)} tasks but the model was adapted to {len(self.x_support)}.")
        if any(isinstance(layer, BatchNorm) for layer in self.net.layers):
            z = self.net.predict(self.theta, np.concatenate([self.x_support, x], axis=1), device=self.device)
            n = self.x_support.shape[1]
            found = prototypes.logits(z[:, :n], self.y_support, z[:, n:], self.head, self.device)
        else:
            z = self.net.predict(self.theta, x, device=self.device)
            classes = np.tile(np.arange(self.head.ways), (len(x), 1))
            found = prototypes.logits(self.prototypes, classes, z, self.head, self.device)
        return found[0] if inputs.is_single(self.net, given) else found

    def distance(self, x: Any) -> Array:
        """How far each sample is from the nearest prototype, (M,) or (T, M); large where it is of none of the classes.

        Squared Euclidean, or 1 - cosine: in [0, 2]. What counts as far is to be chosen on samples of other classes.
        """
        return prototypes.nearest(self.outputs(x), self.head)


def _together(batch: Batch) -> Array:
    return np.concatenate([batch.x_support, batch.x_query], axis=1)
