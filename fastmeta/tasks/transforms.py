"""Augmentation: what is done to the samples of a task, by random numbers that belong to that very task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TRANSFORM = 0x7F0A  # keeps these streams apart from those that draw episodes

Transform = Callable[[NDArray[np.float32], np.random.Generator], Any]


def checked(transform: Any) -> Transform | None:
    """`transform` where it can be called, or None."""
    if transform is not None and not callable(transform):
        raise TypeError(f"transform={transform!r} must be a function of samples and a random generator. Give one.")
    return transform  # type: ignore[no-any-return]


def transformed(
    x: NDArray[np.float32], transform: Transform | None, seed: int, step: int, begin: int
) -> NDArray[np.float32]:
    """Samples x (T, N, ...) of tasks begin .. begin + T - 1, each task's (N, ...) by `transform` with its own numbers.

    Raises ValueError or TypeError where it gives samples of another shape or dtype, or nothing.
    """
    if transform is None:
        return x
    made = np.empty_like(x)
    for task, samples in enumerate(x):
        found = transform(samples.copy(), np.random.default_rng((seed, step, begin + task, _TRANSFORM)))
        shape, dtype = np.shape(found), getattr(found, "dtype", type(found).__name__)
        if dtype != x.dtype:
            raise TypeError(
                f"transform must give samples of float32, as it is given, not of {dtype}. Return x.astype('float32')."
            )
        if shape != samples.shape:
            raise ValueError(
                f"transform must give samples of the shape that it is given, {samples.shape}, not {shape}. "
                "Change values alone; other shapes are to be made before from_arrays."
            )
        made[task] = found
    return made
