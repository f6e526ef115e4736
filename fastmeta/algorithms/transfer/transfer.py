"""Transfer learning: one classifier of all training classes, then a new head for each task. The baseline to beat."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import checks, inputs
from fastmeta.algorithms.transfer.folding import folded, norm_sizes, population_statistics
from fastmeta.algorithms.transfer.head_model import HeadModel
from fastmeta.algorithms.transfer.heads import HEADS, normalised
from fastmeta.algorithms.transfer.minibatches import Minibatches
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.learning.learner import Learner
from fastmeta.learning.settings import Setting
from fastmeta.learning.states import Training
from fastmeta.learning.support import support
from fastmeta.networks.layers import Linear
from fastmeta.networks.network import Network
from fastmeta.ranks.joining import writes
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array

STATISTICS_SAMPLES = 1024
NOT_TAKEN = -1.0  # no variance: that of features that are all alike is 0
_NUMBERED = "y_support must hold each label 0 .. ways-1, with a weight above 0. Number classes so."


class Transfer(Learner):
    """Pretraining on all training classes at once, then a head fitted to the features of each support set.

    net: a classifier of the training classes, so net.outputs is their number, whose last layer is Linear; what comes
    before gives the features, which are scaled to length 1. head: "linear", logistic regression with an L2
    penalty of 1 (Tian et al. 2020, arXiv 2003.11539); "cosine" (Chen et al. 2019, arXiv 1904.04232); or "centroid",
    the nearest class mean (Wang et al. 2019, arXiv 1911.04623). An iteration of `fit` takes tasks_per_step
    batches of batch_size samples, each with batch-norm statistics of its own. inductive: adaptation and evaluation
    use the statistics of training samples, taken at the end of `fit` and for each validation, so that no sample
    sees another; False: those of the set at hand (transductive). Ways and shots may differ from task to task.

    Raises ValueError or TypeError where an argument is out of range, DivergenceError where training diverges.

    >>> from fastmeta import MLP, Transfer, tasks
    >>> x, y = np.random.default_rng(0).normal(size=(60, 8)), np.repeat([3, 5, 9], 20)
    >>> source = tasks.from_arrays(x, y, ways=2, shots=1, queries=5)
    >>> transfer = Transfer(MLP((8, 16, 3)), head="centroid", device="numpy").fit(source, iterations=2)
    >>> transfer.evaluate(source, episodes=4).measure
    'accuracy'
    """

    network_outputs = "classes"
    evaluation_settings = ("head",)
    recipes: ClassVar = {"": {"tasks_per_step": 2}}
    gpu_parameters = ("theta",)

    def __init__(
        self,
        net: Network,
        head: Annotated[str, Setting(tuple(HEADS), "Head that is fitted to a task's features.")] = "linear",
        batch_size: Annotated[int, Setting(int, "Samples of one batch of pretraining.")] = 64,
        inductive: Annotated[bool, Setting(bool, "Batch norm by statistics of training samples.")] = True,
        device: str = "cpu",
    ) -> None:
        super().__init__(net, device)
        self.head = checks.choice("head", head, HEADS)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.inductive = checks.switch("inductive", inductive)
        if not isinstance(net.layers[-1], Linear) or net.head[0] == 0:
            raise ValueError(f"net={net} must end with a Linear layer and have parameters before it. Add one.")
        self._norms = sum(norm_sizes(net)) if self.inductive else 0

    @property
    def batch_norm(self) -> str:
        """Whose statistics batch norm uses after training: "inductive", "transductive", "" where there is none."""
        return "inductive" if self._norms else super().batch_norm

    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """theta (P,), and where batch norm is inductive the means and variances "statistics" (2, C)."""
        statistics = {"statistics": np.full((2, self._norms), NOT_TAKEN, theta.dtype)} if self._norms else {}
        return {"theta": theta} | statistics

    def fit(self, tasks: Any, iterations: int, tasks_per_step: int = 1, *arguments: Any, **options: Any) -> Self:
        """Learn from `iterations` times `tasks_per_step` batches of samples of all classes of `tasks`.

        tasks: labelled samples, such as fm.tasks.from_arrays(...) or a part of Omniglot. The other arguments are
        those of every learner. A run stopped with Ctrl-C has no batch-norm statistics before it has been resumed.
        """
        if not all(hasattr(tasks, name) for name in ("take", "y", "classes")):
            raise TypeError(f"tasks={tasks!r} must be labelled samples, such as fm.tasks.from_arrays(x, y).")
        if not len(tasks.classes):
            raise ValueError(
                "tasks must have classes; these have float targets. Use fm.MAML or another gradient learner."
            )
        if len(tasks.classes) != self.net.outputs:
            raise ValueError(
                f"net has {self.net.outputs} outputs but tasks have {len(tasks.classes)} classes. Give it as many."
            )
        self._batches = Minibatches(tasks, self.batch_size)
        super().fit(self._batches, iterations, tasks_per_step, *arguments, **options)
        if self._norms:
            self._training = self._evaluable()
            if options.get("checkpoint") is not None and writes(options.get("ranks")):
                self.save(options["checkpoint"])
        return self

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean loss of the batches and its gradient; nothing moves the statistics."""
        losses, slopes = gradients.gradient(self.net, self.theta, batch.x_query, batch.y_query, device=self.device)
        slope = slopes.mean(axis=0, dtype=np.float64).astype(slopes.dtype)
        still = {name: np.zeros_like(values) for name, values in self.parameters.items() if name != "theta"}
        return float(losses.mean(dtype=np.float64)), {"theta": slope} | still

    @quiet
    def adapt(self, x_support: Any, y_support: Any, weights: ArrayLike | None = None) -> HeadModel:
        """A model of the task of which x (N, ...) and labels y (N,), 0 .. ways-1, are samples; no gradient step.

        Labels may be names; x may be pictures, paths or arrays of any size, where the learner was trained on such.
        weights (N,) multiply each sample's loss. (T, N, ...) data give a model of T tasks at once.
        """
        net, theta = self._features
        given = support(x_support, y_support, self.preparation)
        x, y = given.x, given.y
        single = inputs.is_single(net, x)
        x = inputs.samples(net, x, theta.dtype, "x_support")
        shares = _shares(x, y, weights)
        features = normalised(net.predict(theta, x, device=self.device))
        weight, bias = HEADS[self.head](features, shares)
        weight, bias = (a[0] if single else a for a in (weight, bias))
        together = shares.shape[1] if self.batch_norm == "transductive" else 0
        return given.told(HeadModel(net, theta, True, self.device, together=together, weight=weight, bias=bias))

    def query_outputs(self, batch: Batch) -> Array:
        """Logits (T, M, ways) of the query sets."""
        model = self.adapt(batch.x_support, batch.y_support, batch.support_weights)
        return model._replace(together=0).outputs(batch.x_query)

    @property
    def _features(self) -> tuple[Network, Array]:
        """The network up to its last layer and its parameters, batch norm folded in where it is inductive."""
        body = Network(self.net.layers[:-1], self.net.input_shape)
        theta = self.theta[: body.parameter_count]
        if not self._norms:
            return body, theta
        means, variances = self.parameters["statistics"]
        if (variances == NOT_TAKEN).all():
            raise RuntimeError("Transfer has no batch-norm statistics yet. Let fit(tasks, ...) reach its end.")
        return folded(body, theta, means, variances)

    def _iterate(self, tasks: Any, optimizer: Any) -> float:
        if self._norms and (self.parameters["statistics"] != NOT_TAKEN).any():  # those of earlier parameters
            still = {"statistics": np.full_like(self.parameters["statistics"], NOT_TAKEN)}
            self._training = self.training._replace(parameters=self.parameters | still)
        return super()._iterate(tasks, optimizer)

    @quiet
    def _evaluable(self) -> Training:
        """The training with the batch-norm statistics of its theta."""
        now = self.training
        if not self._norms:
            return now
        body, theta = Network(self.net.layers[:-1], self.net.input_shape), now.parameters["theta"]
        seed, count = self._settings["seed"], -(-STATISTICS_SAMPLES // self.batch_size)
        x = (self._batches.sample(1, seed, step).x_query for step in range(count))
        found = population_statistics(body, theta[: body.parameter_count], x, self.device)
        return now._replace(parameters=now.parameters | {"statistics": np.array(found, theta.dtype)})


def _shares(x: Array, y: Array, weights: Any) -> Array:
    """One-hot labels times weights, (T, N, K) in x's dtype, for x (T, N, ...) and y (T, N) or (N,)."""
    labels = y if y.ndim == 2 else y[None]
    if labels.dtype.kind not in "iu" or labels.shape != x.shape[:2]:
        raise ValueError(f"y_support of shape {y.shape} and dtype {y.dtype} must be one whole number a sample.")
    if labels.min() < 0 or labels.max() >= labels.shape[1]:
        raise ValueError(_NUMBERED)
    shares: Array = (labels[..., None] == np.arange(labels.max() + 1)).astype(x.dtype)
    if weights is not None:
        values = inputs.array("weights", weights)
        fits = values.dtype.kind in "fiu" and values.shape == y.shape
        if not fits or not ((values >= 0) & (values < np.inf)).all():
            raise ValueError(f"weights of shape {values.shape} must be finite numbers of at least 0, {y.shape}.")
        shares *= values.reshape(*labels.shape, 1).astype(x.dtype)
    if not shares.any(axis=1).all():
        raise ValueError(_NUMBERED)
    return shares
