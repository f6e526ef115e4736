"""What every learner shares: fit, adapt, evaluate, save.

One file of more than 200 lines, because a learner is one class, and its arguments are explained where they are taken.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fastmeta import checks, inputs, memory
from fastmeta.device import DEVICES
from fastmeta.floating import quietly
from fastmeta.learning import checkpoint as checkpoints
from fastmeta.learning.learned import Learned
from fastmeta.learning.states import Best, BlockSlopes, Training
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array

if TYPE_CHECKING:
    from fastmeta.learning.foresight import Foresight
    from fastmeta.learning.optimizers import Optimizer
    from fastmeta.learning.ranked import Ranked
    from fastmeta.learning.starts import Start
    from fastmeta.scores.score import Score
    from fastmeta.tasks.episode import Batch, TaskSource


class Learner(Learned):
    """An algorithm that learns `parameters`, "theta" (P,) at least, with which a few samples make a model of a task.

    Batch norm is transductive in training, adaptation and evaluation: the statistics of the batch at hand.
    A subclass gives `meta_gradients`, `adapt` and `query_outputs`; its constructor takes the network first and
    the device last, and keeps every argument under the argument's name.
    """

    algorithms: ClassVar[dict[str, type[Learner]]] = {}
    word: ClassVar[str] = ""  # what the command line calls it; by default the class's name in small letters
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}  # the paper's settings by problem of the command line; "": all
    network_outputs: ClassVar[str] = "task"  # what they are: those of a "task", all training "classes", an "embedding"
    training_sizes: ClassVar[tuple[str, ...]] = ()  # "ways", "shots": those that need not be evaluation's
    evaluation_settings: ClassVar[tuple[str, ...]] = ()  # arguments that may be changed when training is over
    loss: Loss | None = None  # None: what the targets of a task mean
    gpu_parameters: tuple[str, ...] = ()  # which `meta_gradients` takes, and leaves the slopes of, on a GPU

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.word = vars(cls).get("word", cls.__name__.lower())
        Learner.algorithms[cls.family + cls.__name__] = cls

    def __init__(self, net: Network, device: str) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"net={net!r} must be a Network, such as MLP((1, 40, 40, 1)).")
        self.net = net
        self.device = checks.choice("device", device, DEVICES)
        self.any_device = False  # whether small work may be done elsewhere
        self.preparation = None
        self._training: Training | None = None
        self._settings: dict[str, Any] = {}
        self._history: dict[str, Array] = {}
        self._best: Best | None = None
        self._fitting = False
        self._ranked: Ranked | None = None  # within a fit on many ranks
        self._foresight: Foresight | None = None  # within a fit
        self.first_task = 0  # where in the meta-batch the tasks stand that meta_gradients gets

    def __repr__(self) -> str:
        named = {n: getattr(self, n) if isinstance(v, dict) else v for n, v in self.hyper_parameters().items()}
        shown = ", ".join([str(self.net), *(f"{n}={v}" for n, v in named.items())])
        return f"{type(self).__name__}({shown})" + (f", {self.batch_norm} batch norm" if self.batch_norm else "")

    @abstractmethod
    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean loss over the tasks of `batch`, and its gradient by each of `parameters`."""

    def meta_updates(self, batch: Batch, optimizer: Optimizer, states: Array) -> Array | None:
        """Losses (n,) of updates by `meta_gradients` of as many meta-batches, one behind the other in `batch`, to the
        same bits; None, as by default, where none can be computed so. states (n + 1, 3, P): what theta and both its
        moments are before the first and after each is written there. n is the smaller where not all can be."""
        return None

    def update_settings(self) -> tuple[Any, ...]:
        """What `meta_updates` depends on beside the training and the optimizer."""
        return ()

    def block_gradients(self, batch: Batch, blocks: Sequence[tuple[int, int]]) -> BlockSlopes | None:
        """`meta_gradients` of each block of tasks begin .. end - 1: losses (B,), slopes (B, ...); their bits are those
        of the block alone. None where each is to be computed by itself."""
        return None

    @abstractmethod
    def adapt(self, *data: Any, **options: Any) -> Any:
        """A model of the task whose support set is given."""

    @abstractmethod
    def query_outputs(self, batch: Batch) -> Array:
        """Outputs (T, M, O) of the query sets of `batch`, by models of its support sets."""

    def first_theta(self, seed: int, theta: Any) -> Array:
        """theta (P,) or by default net.init(seed); raises where the settings do not fit it, before any work."""
        return self.net.init(seed) if theta is None else inputs.parameters(self.net, theta).copy()

    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """What is learned, as it is before the first iteration of a fit with `seed`."""
        return {"theta": theta}

    def default_optimizer(self, iterations: int) -> Optimizer:
        """What `fit` uses where it is given no optimizer."""
        from fastmeta.learning.optimizers import Adam

        return Adam(1e-3)

    def paper_optimizer(self, learning_rate: float, iterations: int) -> Optimizer:
        """The optimizer of the algorithm's paper, where its first rate is this one."""
        from fastmeta.learning.optimizers import Adam

        return Adam(learning_rate)

    def optimizers(self, optimizer: Optimizer) -> dict[str, Optimizer]:
        """The optimizer of each learned parameter, where fit has `optimizer`."""
        return defaultdict(lambda: optimizer)

    @property
    def history(self) -> dict[str, Array]:
        """One value an iteration, (step,): its mean query "loss", the "seconds" that it took, and, where there was
        validation, the mean score "validation" or nan."""
        return {name: values[: self.training.step] for name, values in self._history.items()}

    def fit(
        self,
        tasks: TaskSource,
        iterations: int,
        tasks_per_step: int = 25,
        optimizer: Optimizer | None = None,
        seed: int = 0,
        *,
        theta: Array | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1000,
        checkpoint_seconds: float = 300.0,
        resume: bool = False,
        callback: Callable[[int, float], None] | None = None,
        ranks: str | None = None,
        start: Start | None = None,
        validation: TaskSource | None = None,
        validate_every: int = 250,
        validation_episodes: int = 100,
        patience: int | None = None,
    ) -> Self:
        """Learn from `iterations` meta-batches; the i-th is tasks.sample(tasks_per_step, seed=seed, step=i).

        optimizer: by default Adam(1e-3), or what the algorithm says. theta (P,): the first parameters, float32 or
        float64, by default net.init(seed). checkpoint: a file, written after the first iteration, after each
        `checkpoint_every`, once `checkpoint_seconds` have passed since then, at the end, and where something else ends
        the training: Ctrl-C, SIGTERM, an exception, whose note then says what the file holds. resume: go on from that
        file where it exists, to the same bits as a run that was never interrupted; give the same tasks, which are not
        compared, and no theta.
        callback(iteration, loss): called after each iteration, counted from 1; on ranks, by the first alone.
        ranks: "mpi" shares the tasks of each meta-batch among the processes that mpiexec started, docs/ranks.md.
        On a GPU theta, the optimizer's moments and the samples of labelled tasks, where they fit, stay on
        the GPU until the end: in a callback, `theta` is a CuPy array.
        Every fit begins anew, a second one too, unless start says from what: all that a learner (this one too), its
        checkpoint, its run or a dict of `parameters` has learned. The optimizer begins anew; give another seed for
        other tasks. With resume it counts only where there is no checkpoint to go on from.
        validation: tasks, of whose episodes `validation_episodes` score what was learned after each `validate_every`
        iterations; the best, the first of equals, is what is learned in the end. patience: so many scores without a
        better one end the training. Both docs/howto/going_on.md.

        Raises DivergenceError where a loss, gradient or update is not finite; FileExistsError where
        `checkpoint` exists and resume is False; ValueError where it has another network or other settings.
        """
        from fastmeta.learning import fitting

        watch = fitting.Watch(validation, validate_every, validation_episodes, patience)
        keeping = fitting.Keeping(checkpoint, checkpoint_every, checkpoint_seconds, resume)
        begin = fitting.Beginning(seed, theta, start)
        fitting.fit(self, tasks, iterations, tasks_per_step, optimizer, begin, keeping, watch, callback, ranks)
        return self

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
        """Learn each episode's support set and score its query set: accuracy, or mean squared error.

        Episode i is tasks.sample(1, seed=seed, step=i), the same for every algorithm; use another seed than
        in fit. `tasks_per_step` episodes are computed together, which bounds the memory, no more. The score's
        `stream` names the episodes by their bits; `fm.compare` pairs scores of one stream. batch_norm: whose
        statistics the predictions use, where the algorithm offers several. ranks: "mpi" shares the episodes among the
        processes that mpiexec started; all of them get the score, which is that of one.
        """

        from fastmeta.scores import evaluation

        def outputs(batch: Batch, steps: Any) -> list[Array]:
            return [self.query_outputs(batch)]

        mode = self.batch_norm_mode(batch_norm)
        given = tasks, episodes, [0], seed, tasks_per_step, self.loss, ranks, self, mode
        found = evaluation.episode_values(outputs, *given)
        return found.score(0, mode)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the learner, with all that resuming its training needs, to one safetensors file."""
        from fastmeta.learning import training

        checkpoints.write(path, self._checkpoint(training.on_host(self.training), self._settings, self.history))

    def _iterate(self, tasks: TaskSource, optimizer: Optimizer) -> float:
        """One meta-update, or several that nobody looks between; the last one's loss. `_training` moves on in one
        assignment, which no interruption can split."""
        start, step = time.perf_counter(), self.training.step
        count = self._settings["tasks_per_step"]
        with memory.counted("tasks_per_step", count):
            loss, after = self._update(tasks, optimizer)
        losses, seconds = self._history["loss"], self._history["seconds"]
        losses[step : after.step] = loss
        early = 0.0 if self._foresight is None else self._foresight.seconds
        seconds[step : after.step] = (time.perf_counter() - start + early) / (after.step - step)
        self._training = after
        return float(losses[after.step - 1])

    def _update(self, tasks: TaskSource, optimizer: Optimizer) -> tuple[float | Array, Training]:
        """The loss of the next meta-batch, and the training after its update; or losses (n,), and that after n."""
        from fastmeta.learning.training import advance

        if self._ranked is not None:
            loss, slopes = self._ranked.update(tasks)
        elif self._foresight is not None and (found := self._foresight.update(self, tasks, optimizer)) is not None:
            return found
        else:
            count, seed = self._settings["tasks_per_step"], self._settings["seed"]
            batch = tasks.sample(count, seed=seed, step=self.training.step)
            with quietly():
                loss, slopes = self.meta_gradients(batch)
                return loss, advance(self.training, slopes, self.optimizers(optimizer))
        with quietly():
            return loss, advance(self.training, slopes, self.optimizers(optimizer))
