"""A step of Adam in one pass: what a training does between two meta-gradients, in a tenth of the calls.

Rounded as in single operations of NumPy, so compiled without contraction: the bits are those of `optimizers.Adam`.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.cpu.layout.job import address
from fastmeta_kernels.cpu.machine.compiler import carray, types
from fastmeta_kernels.cpu.machine.jit import exact, for_each_dtype, lane_of, symbol

Numbers = tuple[float, float, float, float]  # beta1, beta2, floor and rate of a step
MOST = {np.dtype(kind): float(np.finfo(kind).max) for kind in (np.float32, np.float64)}  # by dtype


@exact
def step_of_adam(x, g, m, v, to, next_m, next_v, size, beta1, beta2, floor, rate):
    """Two loops of few arrays each: of more the compiler makes no vectors. Whether a result is not finite."""
    lane = x.dtype.type
    b1, b2 = (lane(beta1), lane(beta2))
    low, step = (lane(floor), lane(rate))
    for i in range(size):
        next_m[i] = b1 * m[i] + g[i]
        next_v[i] = b2 * v[i] + g[i] * g[i]
    odd = 0
    for i in range(size):
        to[i] = x[i] - next_m[i] / (np.sqrt(next_v[i]) + low) * step
        odd |= not np.isfinite(next_v[i]) or not np.isfinite(to[i])
    return odd


def _adam(theta, slope, first, second, moved, next_first, next_second, size, beta1, beta2, floor, rate):
    x, g = (carray(theta, size), carray(slope, size))
    m, v = (carray(first, size), carray(second, size))
    to = carray(moved, size)
    next_m, next_v = (carray(next_first, size), carray(next_second, size))
    return step_of_adam(x, g, m, v, to, next_m, next_v, size, beta1, beta2, floor, rate)


@for_each_dtype
def compiled(dtype: Any) -> Any:
    """The pass for a dtype, compiled or loaded."""
    lane, word = lane_of(dtype), ctypes.c_int64
    signature = types.int64(*[types.CPointer(lane)] * 7, types.int64, *[types.float64] * 4)
    found = symbol(f"fastmeta_adam_{lane}", signature, _adam, exact=True)
    return ctypes.CFUNCTYPE(word, *[ctypes.c_void_p] * 7, word, *[ctypes.c_double] * 4)(found)


def adam(
    theta: Array, gradient: Array, moments: tuple[Array, ...], numbers: Numbers
) -> tuple[Array, Array, Array] | None:
    """theta - rate m / (sqrt(v) + floor), m = beta1 m + g and v = beta2 v + g^2, of (beta1, beta2, floor, rate).

    None where NumPy has to do it: of other arrays than floats (P,) of one dtype, and where something overflows.
    """
    dtype, shape = theta.dtype, theta.shape
    arrays = theta, gradient, *moments
    for array in arrays:
        if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape or not array.flags.carray:
            return None
    most = MOST.get(dtype, 0.0)
    if not (numbers[2] <= most and numbers[3] <= most):
        return None
    made = np.empty(shape, dtype), np.empty(shape, dtype), np.empty(shape, dtype)
    return None if compiled(dtype)(*map(address, arrays), *map(address, made), theta.size, *numbers) else made
