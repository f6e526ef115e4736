"""What this machine's processor can do: fused multiply-adds in registers, and a large product through NumPy's BLAS."""

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
cgutils: Any = numba_cgutils  # its functions have no types


def versions() -> dict[str, str]:
    """Of the packages that compute."""
    return {"numpy": importlib.metadata.version("numpy"), "numba": numba.__version__}


def build(workload: Any, arrays: dict[str, NDArray[Any]], dtype: str, variant: str) -> dict[str, Callable[[], Any]]:
    """The calls; each returns its number of float32 operations."""
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

    return {"fma": fma, "matmul": matmul}


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
def _chains_in_threads(registers: Any, count: Any) -> None:
    for thread in numba.prange(len(registers)):
        _chains(registers[thread], count)
