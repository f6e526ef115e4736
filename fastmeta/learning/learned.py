"""What a learner is made of and holds: its arguments, where its training stands, and what was best on validation."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from numpy.typing import ArrayLike

from fastmeta import checks, inputs
from fastmeta.learning import checkpoint as checkpoints
from fastmeta.learning.checkpoint import Checkpoint
from fastmeta.learning.settings import constructed_with
from fastmeta.learning.states import Best, Training
from fastmeta.networks.layers import BatchNorm
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array

if TYPE_CHECKING:
    from fastmeta.learning.optimizers import Optimizer
    from fastmeta.tasks.images.pictures import Pictures


class Learned(ABC):
    """A network, the arguments of a constructor, and what training has made of them so far."""

    family: ClassVar[str] = ""  # what stands before the class's name among algorithms and in files: "rl." of policies
    batch_norm_modes: ClassVar[tuple[str, ...]] = ()  # what `evaluate` offers, where it offers several
    net: Network
    device: str
    preparation: Pictures | None  # how pictures became the samples that it was trained on, where they did
    _training: Training | None
    _best: Best | None  # of a fit with validation
    _fitting: bool  # within a fit, which goes on from the last iteration and not from the best
    _settings: dict[str, Any]
    _history: dict[str, Array]

    @abstractmethod
    def first_theta(self, seed: int, theta: Any) -> Array:
        """theta (P,) or by default net.init(seed); raises where the settings do not fit it, before any work."""

    @abstractmethod
    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """What is learned, as it is before the first iteration of a fit with `seed`."""

    @abstractmethod
    def default_optimizer(self, iterations: int) -> Optimizer:
        """What `fit` uses where it is given no optimizer."""

    @abstractmethod
    def optimizers(self, optimizer: Optimizer) -> dict[str, Optimizer]:
        """The optimizer of each learned parameter, where fit has `optimizer`."""

    @classmethod
    def from_theta(cls, net: Network, theta: ArrayLike, **arguments: Any) -> Self:
        """A learner of these constructor's arguments that has learned theta (P,), float32 or float64, elsewhere."""
        learner = cls(net, **arguments)  # type: ignore[call-arg]
        learner.theta = theta
        return learner

    def hyper_parameters(self) -> dict[str, Any]:
        """The constructor's arguments but for net and device, as plain JSON values; networks and losses as dicts.

        An argument that is given by its name only is left out where it is None.
        """
        return constructed_with(self)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name, net and device among them; `deep` changes nothing."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **arguments: Any) -> Self:
        """Replace arguments of the constructor, which checks them: all of them, or none where one is refused.

        What was learned is kept where its names and shapes are those of the new arguments, otherwise forgotten.
        """
        known = self.get_params()
        for name in arguments:
            checks.choice("name", name, known)
        made = type(self)(**known | arguments)
        if self._training is not None and made.net == self.net:
            try:
                checkpoints.check_shapes(self._training, made.initial_parameters(self._training.parameters["theta"]))
                kept = ("_training", "_best", "_settings", "_history", "preparation")
                made.__dict__ |= {name: vars(self)[name] for name in kept}
            except ValueError:
                pass
        self.__dict__ |= made.__dict__
        return self

    def clone(self) -> Self:
        """A learner of the same arguments that has learned nothing; what `sklearn.base.clone` gives."""
        return type(self)(**self.get_params())

    __sklearn_clone__ = clone

    @property
    def batch_norm(self) -> str:
        """Whose statistics batch norm uses, "transductive"; "" where the network has none."""
        return "transductive" if any(isinstance(n, BatchNorm) for n in self.net.layers) else ""

    def batch_norm_mode(self, asked: str | None) -> str:
        """`asked`, or by default `batch_norm`; ValueError where the learner has no such mode."""
        if asked is None:
            return self.batch_norm
        if not self.batch_norm:
            raise ValueError(f'batch_norm="{asked}" must be left out: {self.net} has no batch norm.')
        if not self.batch_norm_modes:
            raise ValueError(f'batch_norm="{asked}" must be left out: {type(self).__name__} has one mode only.')
        return checks.choice("batch_norm", asked, self.batch_norm_modes)

    @property
    def training(self) -> Training:
        """Where training stands: the last iteration. RuntimeError before the first fit."""
        if self._training is None:
            raise RuntimeError(f"{type(self).__name__} has learned nothing yet. Call fit(tasks, ...) first.")
        return self._training

    def _evaluable(self) -> Training:
        """`training`, on the host, with all that `evaluate` needs, in the middle of a fit."""
        return self.training

    @property
    def best(self) -> Best | None:
        """What scored best in a fit with validation, which then is what `parameters` are; otherwise None."""
        return self._best

    @property
    def parameters(self) -> dict[str, Array]:
        """What was learned, by name: "theta" (P,) and whatever else the algorithm learns."""
        best = None if self._fitting else self._best
        return self.training.parameters if best is None else best.parameters

    @property
    def theta(self) -> Array:
        """The network's parameters (P,), before adaptation where there is one.

        They can be set: whatever else was learned stays, iterations are counted from 0 again.
        """
        return self.parameters["theta"]

    @theta.setter
    def theta(self, values: ArrayLike) -> None:
        from fastmeta.learning import training

        theta = inputs.parameters(self.net, values).copy()
        parameters = self.initial_parameters(theta)
        if self._training is not None:
            parameters |= {name: array for name, array in self.parameters.items() if name != "theta"}
        self._training = training.begin(parameters, self.optimizers(self.default_optimizer(1)))
        self._best, self._settings, self._history = None, {}, training.no_history()

    def _checkpoint(self, state: Training, settings: dict[str, Any], history: dict[str, Array]) -> Checkpoint:
        best = self._best if state.step else None
        named = self.family + type(self).__name__
        return Checkpoint(named, self.hyper_parameters(), self.net, settings, state, history, best, self.preparation)

    def restore(self, saved: Checkpoint) -> None:
        """Stand where `saved` stands, which is of this algorithm, network and settings."""
        self._training, self._settings, self._history = saved.training, saved.settings, saved.history
        self._best, self.preparation = saved.best, saved.preparation
