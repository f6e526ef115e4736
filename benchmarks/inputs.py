"""Parameters and data of a workload, drawn from a seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Workload

Array = NDArray[Any]


def inputs(workload: Workload, seed: int = 0) -> dict[str, Array]:
    """theta (P,) and the data in float32; float64 runs cast them, so that every program sees the same numbers.

    Data are x_support, y_support, x_query, y_query with a leading axis of tasks, or x, y and a vector v (P,) for a
    Hessian-vector product.
    """
    rng = np.random.default_rng(seed)
    arrays = {"theta": _parameters(workload, rng)}
    if workload.parts[0] == "hvp":
        arrays["x"], arrays["y"] = _classes(workload, 1, workload.query, rng)
        arrays["v"] = rng.standard_normal(arrays["theta"].size)
        arrays["x"], arrays["y"] = arrays["x"][0], arrays["y"][0]
    else:
        samples = workload.support + workload.query
        x, y = (_classes if workload.labelled else _sinusoids)(workload, workload.tasks, samples, rng)
        n = workload.support
        arrays |= {"x_support": x[:, :n], "y_support": y[:, :n], "x_query": x[:, n:], "y_query": y[:, n:]}
    return {
        name: np.ascontiguousarray(a, np.float32 if a.dtype.kind == "f" else np.int64) for name, a in arrays.items()
    }


def _parameters(workload: Workload, rng: np.random.Generator) -> Array:
    """Weights as in He et al. 2015; biases and shifts around 0, scales around 1, none exactly."""
    blocks = [np.empty(0)]
    shapes = workload.network.parameter_shapes
    for i, shape in enumerate(shapes):
        values = rng.standard_normal(shape)
        if len(shape) > 1:
            values *= math.sqrt(2 / math.prod(shape[:-1]))
        else:
            is_scale = len(shapes[i - 1]) == 4
            values = 0.1 * values + is_scale
        blocks.append(values.ravel())
    return np.concatenate(blocks)


def _sinusoids(workload: Workload, tasks: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """The MAML paper's: y = A sin(x - b), A in [0.1, 5], b in [0, pi], x in [-5, 5]."""
    amplitude, phase = rng.uniform(0.1, 5, (tasks, 1, 1)), rng.uniform(0, np.pi, (tasks, 1, 1))
    x = rng.uniform(-5, 5, (tasks, samples, 1))
    return x, amplitude * np.sin(x - phase)


def _classes(workload: Workload, tasks: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Noise around one mean a class; labels 0, 1, ... in turn, so that any multiple of the classes is balanced.

    Embeddings are drawn smaller, so that the softmax of their distances does not saturate.
    """
    shape, classes = workload.network.input_shape, workload.classes
    y = np.broadcast_to(np.arange(samples) % classes, (tasks, samples))
    means = rng.standard_normal((tasks, classes, *shape))
    x = np.stack([mean[labels] for mean, labels in zip(means, y, strict=True)])
    scale = math.sqrt(0.5) if len(shape) == 3 or workload.parts[0] == "hvp" else 1 / math.sqrt(math.prod(shape))
    return (x + rng.standard_normal(x.shape)) * scale, y
