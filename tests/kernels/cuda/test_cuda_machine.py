"""What a machine lacks that cannot run the CUDA backend: each is an error that says so and what to do."""

import sys

import pytest

import fastmeta.device
from fastmeta_kernels.contract import DeviceError
from fastmeta_kernels.cuda.execution import call as execution
from fastmeta_kernels.cuda.layout.recording import struct
from fastmeta_kernels.cuda.machine import machine
from tests.kernels.agreement import BY_NAME, inner_loop, sets


def test_too_little_memory_names_a_meta_batch_that_fits(cuda_on_cpu, cupy_on_cpu):
    case = BY_NAME["mlp_odd_softplus"]
    theta, support, query = sets(case)
    inner = inner_loop(case.network, "float64")
    cuda_on_cpu.meta_gradient(case.network.table, theta, support, query, inner)
    cupy_on_cpu.memory = execution.latest()._arena.size // 2
    execution.clear()
    with pytest.raises(MemoryError, match=r"5 tasks need .* GiB on the device.* At most [1-4] tasks fit") as caught:
        cuda_on_cpu.meta_gradient(case.network.table, theta, support, query, inner)
    fits = int(str(caught.value).split("At most ")[1].split()[0])
    smaller = [data._replace(x=data.x[:fits], y=data.y[:fits]) for data in (support, query)]
    cuda_on_cpu.meta_gradient(case.network.table, theta, *smaller, inner)
    cupy_on_cpu.memory = 1_000
    with pytest.raises(MemoryError, match="Not even one task fits"):
        cuda_on_cpu.predict(case.network.table, theta, support.x)


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(machine, "cupy", machine.cupy.__wrapped__)
    fastmeta.device.backend.cache_clear()
    message = r'device="cuda" needs CuPy, which is not installed: pip install "fastmeta\[cuda13\]"\.'
    with pytest.raises(ModuleNotFoundError, match=message):
        fastmeta.device.backend("cuda")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"driverGetVersion": lambda: 0, "fails": True}, "needs an NVIDIA driver; none is loaded"),
        ({"fails": True}, r"cannot use the driver.*cuda12"),
        ({"getDeviceCount": lambda: 0}, "needs an NVIDIA GPU; the driver reports none"),
        ({"capability": "75"}, r"needs compute capability 8\.0 or newer; this GPU has 7\.5"),
    ],
)
def test_a_machine_that_cannot_compute_is_named(cupy_on_cpu, monkeypatch, change, message):
    def fails():
        raise cupy_on_cpu.cuda.runtime.CUDARuntimeError("cudaErrorInsufficientDriver")

    if change.pop("fails", False):
        change["getDeviceCount"] = fails
    monkeypatch.setattr(cupy_on_cpu.cuda.Device, "compute_capability", change.pop("capability", "90"))
    for name, value in change.items():
        monkeypatch.setattr(cupy_on_cpu.cuda.runtime, name, value)
    monkeypatch.setitem(sys.modules, "cupy", cupy_on_cpu)
    monkeypatch.setattr(machine, "cupy", machine.cupy.__wrapped__)
    fastmeta.device.backend.cache_clear()
    with pytest.raises(DeviceError, match=message):
        fastmeta.device.backend("cuda")


def test_structs_reject_unknown_members():
    with pytest.raises(ValueError, match="no field"):
        struct("Loss", nothing=1)
