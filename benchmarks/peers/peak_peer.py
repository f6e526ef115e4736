"""What this machine can do: fused multiply-adds in registers, a large product, a triad through main memory."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as numba_cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

SIDE = 2048  # of the product's matrices
REPEATS = 4_000_000
CHAINS = 12  # independent accumulators: more than latency x units, fewer than registers
VECTOR_BYTES = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32
LANES = VECTOR_BYTES // 4
TRIAD = 32 * 2**20  # elements of each array, far beyond the caches
cgutils: Any = numba_cgutils  # its functions have no types


def versions() -> dict[str, str]:
    """Of the packages that compute."""
    return {"numpy": importlib.metadata.version("numpy"), "numba": numba.__version__}


def build(
    workload: Any, arrays: dict[str, NDArray[Any]], dtype: str, variant: str, device: str
) -> dict[str, Callable[[], Any]]:
    """The calls; each returns its number of float32 operations, the triad its number of bytes read and written."""
    if device == "cuda":
        return _on_gpu()
    threads = int(os.environ["NUMBA_NUM_THREADS"])
    registers = np.ones((threads, CHAINS * LANES), np.float32)
    a = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    b, c = a.T.copy(), np.empty_like(a)

    def fma() -> int:
        _chains_in_threads(registers, REPEATS)
        return 2 * threads * CHAINS * LANES * REPEATS

    def matmul() -> int:
        np.matmul(a, b, out=c)
        return 2 * SIDE**3

    x, y, z = (np.ones(TRIAD, np.float32) for _ in range(3))

    def triad() -> int:
        _triad(x, y, z)
        return 3 * x.nbytes

    return {"fma": fma, "matmul": matmul, "triad": triad}


def _on_gpu() -> dict[str, Callable[[], Any]]:
    """The same three through CuPy."""
    import cupy

    side, steps = 8192, 4096
    x, y, z = (cupy.ones(TRIAD, cupy.float32) for _ in range(3))
    a, b, c = (cupy.ones((side, side), cupy.float32) for _ in range(3))
    chains = "; ".join(f"v{i} = fmaf(v{i}, 0.75f, 0.25f)" for i in range(8))
    start = " ".join(f"float v{i} = x + {i};" for i in range(8))
    total = " + ".join(f"v{i}" for i in range(8))
    body = f"{start} for (int k = 0; k < {steps}; ++k) {{ {chains}; }} y = {total};"
    multiply_add = cupy.ElementwiseKernel("float32 x", "float32 y", body, "fma_chains")
    add_scaled = cupy.ElementwiseKernel("float32 x, float32 y", "float32 z", "z = x + 0.5f * y", "triad")

    def finished(call: Callable[[], Any], count: int) -> Callable[[], int]:
        def run() -> int:
            call()
            cupy.cuda.get_current_stream().synchronize()
            return count

        return run

    few = x[: 2**20]
    return {
        "fma": finished(lambda: multiply_add(few, y[: 2**20]), 2 * 8 * steps * few.size),
        "matmul": finished(lambda: cupy.matmul(a, b, out=c), 2 * side**3),
        "triad": finished(lambda: add_scaled(x, y, z), 3 * x.nbytes),
    }


def vector(workload: Any, result: Any) -> NDArray[Any]:
    """The number of operations of a call."""
    return np.array([result])


def _emit_chains(context: Any, values: Any, count: Any) -> Any:
    """x = x a + b, `count` times, in CHAINS vectors that stay in registers; values holds x before and after."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), LANES)
        name = f"llvm.fma.v{LANES}f32"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        start = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(start, vector.as_pointer())
        at = [builder.gep(place, [ir.Constant(ir.IntType(64), i)]) for i in range(CHAINS)]
        factor, addend = (ir.Constant(vector, [ir.FloatType()(x)] * LANES) for x in (0.75, 0.25))  # 1 stays 1
        registers = [cgutils.alloca_once_value(builder, builder.load(p, align=4)) for p in at]
        with cgutils.for_range(builder, args[1]):
            for register in registers:
                builder.store(builder.call(fma, [builder.load(register), factor, addend]), register)
        for register, p in zip(registers, at, strict=True):
            builder.store(builder.load(register), p, align=4)
        return context.get_dummy_value()

    return types.void(values, types.int64), emit


_chains: Any = intrinsic(_emit_chains)


@numba.njit(parallel=True)
def _triad(x: Any, y: Any, z: Any) -> None:
    for i in numba.prange(len(x)):
        x[i] = y[i] + np.float32(0.5) * z[i]


@numba.njit(parallel=True)
def _chains_in_threads(registers: Any, count: Any) -> None:
    for thread in numba.prange(len(registers)):
        _chains(registers[thread], count)
