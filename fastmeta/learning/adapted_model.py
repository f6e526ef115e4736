"""A network adapted to one task: what a learner's `adapt` gives back."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import inputs
from fastmeta.floating import quiet
from fastmeta.networks.network import Network
from fastmeta.record import Record
from fastmeta_kernels.contract import Array

if TYPE_CHECKING:
    from fastmeta.labels import Names
    from fastmeta.tasks.images.pictures import Pictures

SHOWN = 5  # names of classes in a repr
FEW_TOGETHER = (
    "Batch norm is transductive: its statistics are those of the samples that are predicted together, here fewer than "
    "the support set has. Accuracy falls, to near chance for one sample alone. Predict more of them at once, or adapt "
    'with batch_norm="frozen", where the algorithm has it.'
)


class AdaptedModel(Record, eq=False):
    """`net` with the parameters `theta` (P,) that one task's support set gave it, or (T, P) for T tasks.

    Batch norm uses the statistics of the samples handed in together (transductive); with a `context` (M, ...) of
    support samples, those of the context and the one sample that is predicted (support). With (T, P) parameters
    x is (T, N, ...), context is (T, M, ...) and results have a leading T. Transductive predictions of fewer samples
    than `together`, the size of the support set, warn: a lone one is near chance. Every method raises DivergenceError
    where an output is not finite.

    `names` of the classes, where the support set had names as labels: `predict` gives these. With a `preparation`, that
    of the tasks which were learned from, x may be a picture or several: paths, Pillow images or arrays of any size; the
    results of a single picture have no axis of samples.
    """

    kinds: ClassVar[dict[str, type[AdaptedModel]]] = {}
    algorithm: ClassVar[str] = "MAML"  # a learner whose module defines this class

    net: Network
    theta: Array
    classifies: bool
    device: str = "cpu"
    context: Array | None = None
    together: int = 0
    names: Names = ()
    preparation: Pictures | None = None

    def __init_subclass__(cls, **options: bool) -> None:
        super().__init_subclass__(**options)
        AdaptedModel.kinds[cls.__name__] = cls

    def __repr__(self) -> str:
        said = [str(self.net)]
        if self.names:
            more = f" and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
            said.append(f"classes {', '.join(map(str, self.names[:SHOWN]))}{more}")
        if self.preparation is not None:
            said.append(str(self.preparation))
        return f"<{type(self).__name__} of {'; '.join(said)}>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file, of which `fm.load` makes it again; its names are kept.

        Raises TypeError where a name is none of strings, numbers, True, False and tuples of these.
        """
        from fastmeta.learning import model_file

        model_file.write(path, self)

    def outputs(self, x: Any) -> Array:
        """Outputs (N, O), logits where it classifies, of x (N, ...); (O,) of a single picture."""
        alone = False
        if self.preparation is not None:
            x, alone = self.preparation.samples(x)
        elif type(x) is not np.ndarray:
            inputs.no_pictures("x", x)
        found = self._outputs(x)
        return found[0] if alone else found

    @quiet
    def _outputs(self, x: ArrayLike) -> Array:
        given = inputs.array("x", x)
        self._expect_together(given)
        if self.context is None:
            return self.net.predict(self.theta, given, device=self.device)
        x, context = (inputs.samples(self.net, a, self.theta.dtype) for a in (given, self.context))
        if len(x) != len(context):
            raise ValueError(f"x has {len(x)} tasks but the model was adapted to {len(context)}.")
        thetas = np.broadcast_to(self.theta, (len(x), self.theta.shape[-1]))
        outputs = np.stack([self._one_by_one(*task) for task in zip(thetas, context, x, strict=True)])
        return outputs[0] if inputs.is_single(self.net, given) else outputs

    def _expect_together(self, x: Array) -> None:
        """Warn at the caller's line where batch norm takes its statistics from fewer samples than the support set."""
        if x.ndim > len(self.net.input_shape) and x.shape[-len(self.net.input_shape) - 1] < self.together:
            level, frame = 1, sys._getframe()
            while frame.f_back and frame.f_globals["__name__"].startswith(("fastmeta.", "numpy.")):
                level, frame = level + 1, frame.f_back
            warnings.warn(FEW_TOGETHER, stacklevel=level)

    def _one_by_one(self, theta: Array, context: Array, x: Array) -> Array:
        """Outputs (N, O) of x (N, ...), each sample in a set of its own with the context (M, ...)."""
        contexts = np.broadcast_to(context, (len(x), *context.shape))
        sets = np.concatenate([contexts, x[:, None]], axis=1)  # (N, M + 1, ...)
        return self.net.predict(theta, sets, device=self.device)[:, -1]

    def predict(self, x: Any) -> Any:
        """Labels (N,), or the classes' names where they have names, of x (N, ...); outputs (N, O) where the task has
        float targets. Of a single picture, its label or name.
        """
        outputs = self.outputs(x)
        if not self.classifies:
            return outputs
        if not self.names:
            return outputs.argmax(axis=-1)
        from fastmeta.labels import named

        return named(self.names, outputs[..., : len(self.names)].argmax(axis=-1))

    @quiet
    def probabilities(self, x: Any) -> Array:
        """Class probabilities (N, O) of x (N, ...); TypeError where the task has float targets."""
        if not self.classifies:
            raise TypeError("probabilities need integer labels; this task's targets are floats. Use predict.")
        outputs = self.outputs(x)
        powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))  # a difference may overflow: its power is 0
        probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
        return probabilities


AdaptedModel.kinds["AdaptedModel"] = AdaptedModel


def of(net: Network, phi: Array, x_support: Array, classifies: bool, batch_norm: str, device: str) -> AdaptedModel:
    """`net` with adapted parameters phi, (P,) or (T, P), whose batch norms use the statistics that are named."""
    if batch_norm == "frozen":
        from fastmeta.networks.frozen_norms import frozen

        x = inputs.samples(net, x_support, phi.dtype, "x_support")
        x = x[0] if inputs.is_single(net, x_support) else x
        return AdaptedModel(*frozen(net, phi, x, device), classifies, device)
    return AdaptedModel(net, phi, classifies, device, x_support if batch_norm == "support" else None)
