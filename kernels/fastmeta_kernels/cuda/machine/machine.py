"""The device as the launcher sees it: CuPy, found late; compiled kernels; arenas; errors that say what to do."""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from fastmeta_kernels.contract import DeviceError
from fastmeta_kernels.cuda.machine import sources
from fastmeta_kernels.cuda.machine.kernel_table import PRECISIONS, instances
from fastmeta_kernels.host import is_elsewhere

OLDEST = 80  # compute capability: the oldest one that tests compile for
OPTIONS = ("--std=c++17",)
DEFAULT_SHARED = 48 * 1024  # bytes of shared memory that a block may have without asking


@cache
def cupy() -> ModuleType:
    """CuPy with a device that can run the kernels.

    Raises ModuleNotFoundError without CuPy, DeviceError without driver or device, or where the device is too old.
    """
    try:
        module = importlib.import_module("cupy")
    except ImportError as error:
        raise ModuleNotFoundError(
            'device="cuda" needs CuPy, which is not installed: pip install "fastmeta[cuda13]".'
        ) from error
    runtime = module.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if runtime.driverGetVersion() == 0:
            raise DeviceError('device="cuda" needs an NVIDIA driver; none is loaded. Use device="cpu".') from error
        raise DeviceError(
            f'device="cuda" cannot use the driver: {error}. Update it (CUDA 13 needs 580 or newer), '
            'pip install "fastmeta[cuda12]", or use device="cpu".'
        ) from error
    if not count:
        raise DeviceError('device="cuda" needs an NVIDIA GPU; the driver reports none. Use device="cpu".')
    capability = int(module.cuda.Device().compute_capability)
    if capability < OLDEST:
        raise DeviceError(
            f'device="cuda" needs compute capability {OLDEST / 10} or newer; this GPU has {capability / 10}. '
            'Use device="cpu".'
        )
    return module


@cache
def cooperates() -> bool:
    """Whether the device can run all blocks of a launch at once, so that they can wait for each other."""
    return bool(cupy().cuda.Device().attributes["CooperativeLaunch"])


def precision() -> str:
    """How products of float32 are computed: FASTMETA_CUDA_PRECISION, by default "fp32"."""
    chosen = os.environ.get("FASTMETA_CUDA_PRECISION") or "fp32"
    if chosen not in PRECISIONS:
        known = ", ".join(f'"{name}"' for name in PRECISIONS)
        raise ValueError(f'FASTMETA_CUDA_PRECISION="{chosen}" must be one of {known}.')
    return chosen


@cache
def module(names: tuple[str, ...], together: bool) -> Any:
    """Kernels; CuPy compiles them on first use and keeps them on disk. `together`: all blocks of a launch at once."""
    code = sources.source()
    return cupy().RawModule(code=code, options=OPTIONS, name_expressions=names, enable_cooperative_groups=together)


@cache
def function(name: str) -> tuple[Any, int]:
    """A kernel by its name expression, and its threads a block."""
    kernels = instances("float" if "<float" in name else "double")
    others = tuple(other for other in kernels if not other.startswith("run_jobs"))
    found = module(others, False) if name in others else module((name,), cooperates())
    return found.get_function(name), kernels[name].threads


@cache
def resident_blocks(name: str) -> int:
    """How many blocks of a kernel without dynamic shared memory the device runs at once."""
    kernel, threads = function(name)
    cuda = cupy().cuda
    blocks = cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.kernel.ptr, threads, 0)
    return int(blocks) * int(cuda.Device().attributes["MultiProcessorCount"])


def is_own(value: Any) -> bool:
    """Whether `value` is an array on a GPU."""
    return is_elsewhere(value)


def on_device(values: Any) -> Any:
    """`values` on the current device, without a copy where it is there; ValueError where it is on another one."""
    cp = cupy()
    if not is_own(values) or isinstance(values, cp.ndarray):
        found = values if isinstance(values, cp.ndarray) else cp.asarray(values)
    else:
        found = cp.from_dlpack(values) if hasattr(values, "__dlpack__") else cp.asarray(values)
    here = cp.cuda.runtime.getDevice()
    if found.device.id != here:
        raise ValueError(f"an array on GPU {found.device.id} must lie on the current one, {here}. Copy it there.")
    return found


def allocate(size: int) -> Any:
    """`size` bytes on the device; MemoryError where they do not fit."""
    cp = cupy()
    try:
        return cp.empty(size, np.uint8)
    except cp.cuda.memory.OutOfMemoryError:
        cp.get_default_memory_pool().free_all_blocks()
    try:
        return cp.empty(size, np.uint8)
    except cp.cuda.memory.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error


def pinned(size: int) -> Any:
    """A buffer of host memory that copies to the device at full speed."""
    return cupy().cuda.alloc_pinned_memory(max(size, 1))


def free_bytes() -> int:
    """Device memory that nobody uses, that of CuPy's pool included."""
    cp = cupy()
    return int(cp.cuda.runtime.memGetInfo()[0] + cp.get_default_memory_pool().free_bytes())
