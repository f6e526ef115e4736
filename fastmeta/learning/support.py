"""A support set as somebody gives it: samples or pictures, numbers or names of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from fastmeta import inputs
from fastmeta.learning.adapted_model import AdaptedModel
from fastmeta_kernels.contract import Array
from fastmeta_kernels.host import is_elsewhere

if TYPE_CHECKING:
    from fastmeta.labels import Names
    from fastmeta.tasks.images.pictures import Pictures

Model = TypeVar("Model", bound=AdaptedModel)


class Support(NamedTuple):
    """Samples (N, ...) or (T, N, ...), labels or targets, and what a model of them has to know."""

    x: Array
    y: Array
    names: Names  # of the labels 0 .. ; () where they are numbers themselves
    preparation: Pictures | None

    def told(self, model: Model) -> Model:
        """The model, which knows the names of its classes and takes pictures."""
        if not self.names and self.preparation is None:
            return model
        return model._replace(names=self.names, preparation=self.preparation)


def support(x: Any, y: Any, preparation: Pictures | None) -> Support:
    """x_support and y_support of `adapt`; labels of one task may be of any hashable kind, as in `from_arrays`."""
    if is_elsewhere(y) or (type(y) is np.ndarray and y.dtype.kind in "iuf"):
        return Support(samples(x, preparation), inputs.array("y_support", y), (), preparation)
    from fastmeta.labels import numbered

    return Support(samples(x, preparation), *numbered("y_support", y), preparation)


def samples(x: Any, preparation: Pictures | None) -> Array:
    """x_support as samples: pictures are prepared as those of training were."""
    if preparation is not None:
        x, _ = preparation.samples(x)
    else:
        inputs.no_pictures("x_support", x)
    return inputs.array("x_support", x)
