"""Meta-gradients by CUDA source under a sanitizer: `python sanitized.py KIND FOLDER CASE...`, KIND thread or address.

Run with the sanitizer's runtime preloaded. Every CUDA thread is an OS thread; for "address" the memory between the
arrays of an arena is poisoned, so that reading past any of them ends the program.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import numpy as np

from fastmeta_kernels import cuda, reference
from fastmeta_kernels.cuda.execution import call as execution
from fastmeta_kernels.cuda.layout.recording import ALIGNMENT, Recording
from fastmeta_kernels.cuda.machine import machine, sources
from tests.gradcheck import relative
from tests.kernels.agreement import BY_NAME, inner_loop, sets
from tests.kernels.cuda_on_cpu.cupy_on_cpu import CuPy

taken: list[tuple[int, int]] = []
take = Recording.take


def take_with_gap(self: Recording, values: int, itemsize: int | None = None, region: str = "kept") -> int:
    address = take(self, values, itemsize, region)
    size = values * (itemsize or self.dtype.itemsize)
    self.sizes[region] += ALIGNMENT
    end = self.base + self.starts[region] + self.sizes[region]
    if region == "kept":  # the others are copied as a whole
        taken.append((address + size, end - address - size))
    return address


def main() -> None:
    barrier = os.environ.get("MISSING_BARRIER")
    if barrier:  # that the sanitizer sees what it should
        text = sources.source().replace(barrier, "")
        sources.source = lambda: text
    kind, folder, *names = sys.argv[1:]
    flags = ("-O1", "-g", f"-fsanitize={kind}", "-DREAL_THREADS")
    cupy = CuPy(Path(folder), flags)
    machine.cupy = lambda: cupy
    fitting = execution._fitting
    if kind == "address":
        Recording.take = take_with_gap
        poison = ctypes.CDLL(None).__asan_poison_memory_region

        def poisoned(request):
            taken.clear()
            made = fitting(request)
            base = made.program.recording.base
            for start, size in taken:
                if start >= base > ALIGNMENT:
                    poison(ctypes.c_void_p(start), ctypes.c_size_t(size))
            return made

        execution._fitting = poisoned
    for name in names:
        case = BY_NAME[name]
        theta, support, query = sets(case, "float32", weighted=True)
        inner = inner_loop(case.network, "float32", "arrays", steps=1)
        ours = cuda.meta_gradient(case.network.table, theta, support, query, inner)
        arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in (*support[:3], *query[:3])]
        doubles = type(support)(*arrays[:3]), type(query)(*arrays[3:])
        inner = inner._replace(rates=inner.rates.astype(np.float64))
        expected = reference.meta_gradient(case.network.table, theta.astype(np.float64), *doubles, inner)
        assert relative(ours, expected) <= 1e-4, name
        print(name, cupy.launches, flush=True)


if __name__ == "__main__":
    main()
