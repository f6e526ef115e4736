"""The CUDA backend on the CPU: its own source, compiled by g++, behind a module that stands for CuPy."""

import os
import shutil
from types import SimpleNamespace

import pytest

from fastmeta_kernels import cpu as cpu_backend
from fastmeta_kernels import cuda as cuda_backend
from fastmeta_kernels import reference
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


ON_DEVICE = pytest.param("on_device", marks=pytest.mark.gpu)
LONG = ("conv4_stride", "conv4_pool")  # cases that take long where CUDA is emulated: all of a few functions only


@pytest.fixture(params=["on_cpu", ON_DEVICE])
def cuda(request):
    """The CUDA backend on the CPU, and on a GPU where there is one."""
    return _cuda(request, request.param)


@pytest.fixture(params=["cpu", "cuda", pytest.param("cuda_on_device", marks=pytest.mark.gpu)])
def fast(request):
    """Each fast backend, CUDA on the CPU and on a GPU where there is one."""
    return _backend(request)


@pytest.fixture(params=["numpy", "cpu", "cuda", pytest.param("cuda_on_device", marks=pytest.mark.gpu)])
def backend(request):
    """Each backend."""
    return _backend(request)


def _backend(request):
    if not request.param.startswith("cuda"):
        return {"numpy": reference, "cpu": cpu_backend}[request.param]
    case = request.node.callspec.params.get("case")
    if request.param == "cuda" and getattr(case, "name", "") in LONG and "sweep" in request.keywords:
        pytest.skip(f"{case.name} takes long where CUDA is emulated")
    return _cuda(request, "on_device" if request.param == "cuda_on_device" else "on_cpu")


def _cuda(request, where):
    if where == "on_cpu":
        return request.getfixturevalue("cuda_on_cpu")
    reason = _device_reason()
    if reason:
        pytest.skip(reason)
    return cuda_backend
