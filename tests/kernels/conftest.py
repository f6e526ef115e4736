"""The CUDA backend on the CPU: its own source, compiled by g++, behind a module that stands for CuPy."""

import os
import shutil
from types import SimpleNamespace

import pytest

from fastmeta_kernels import cuda as cuda_backend
from fastmeta_kernels.contract import DeviceError
from fastmeta_kernels.cuda.execution import call as execution
from fastmeta_kernels.cuda.machine import machine
from tests.kernels.cuda_on_cpu.cupy_on_cpu import HEADER, CuPy

COMPILER = os.environ.get("CXX", "g++")


@pytest.fixture(scope="session")
def gxx():
    """The C++ compiler, and the header that stands for CUDA."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"{COMPILER} is not installed")
    return SimpleNamespace(command=[COMPILER], header=HEADER.read_text("utf-8"))


@pytest.fixture(scope="session")
def cupy_on_cpu(gxx, pytestconfig):
    """A module that stands for `cupy`; compiled kernels are kept in pytest's cache."""
    return CuPy(pytestconfig.cache.mkdir("cuda_on_cpu"))


@pytest.fixture
def cuda_on_cpu(cupy_on_cpu, monkeypatch):
    """The CUDA backend on that module, with no program left from another test."""
    monkeypatch.setattr(machine, "cupy", lambda: cupy_on_cpu)
    monkeypatch.setattr(cupy_on_cpu, "order", 0)
    monkeypatch.setattr(cupy_on_cpu, "memory", 1 << 40)
    monkeypatch.setattr(cupy_on_cpu, "resident", 1)
    _forget()
    yield cuda_backend
    _forget()


def _forget():
    """No program, and nothing that was asked of the device."""
    execution.clear()
    for cached in (machine.cooperates, machine.resident_blocks, machine.module, machine.function):
        cached.cache_clear()


def _device_reason():
    try:
        machine.cupy()
    except (ModuleNotFoundError, DeviceError) as error:
        return str(error)
    return None


@pytest.fixture(params=["on_cpu", pytest.param("on_device", marks=pytest.mark.gpu)])
def cuda(request):
    """The CUDA backend on the CPU, and on a GPU where there is one."""
    if request.param == "on_cpu":
        return request.getfixturevalue("cuda_on_cpu")
    reason = _device_reason()
    if reason:
        pytest.skip(reason)
    return cuda_backend
