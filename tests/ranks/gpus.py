"""GPUs of ranks that have none: CuPy on the CPU, and what is used of `cupy.cuda.nccl` over MPI on the host.

As NCCL does, a collective returns before it is done, says nothing of a rank that is lost, and waits for it for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from fastmeta_kernels.cuda.machine import machine
from tests.kernels.cuda_on_cpu.cupy_on_cpu import CuPy

RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
BUSY = 3  # questions that an event answers with "not yet"


class NcclError(RuntimeError):
    """What NCCL raises."""


class Event:
    """Done when the last collective is."""

    last: Any = None  # its request

    def __init__(self, disable_timing: bool = False) -> None:
        self.asked = 0

    def record(self, stream: Any) -> None:
        self.request, self.asked = Event.last, 0

    @property
    def done(self) -> bool:
        from mpi4py import MPI

        self.asked += 1
        try:
            return self.asked > BUSY and self.request.Test()
        except MPI.Exception:
            return False


def installed(
    folder: str, devices: int = 8, nccl: dict[str, Any] | None = None, only_on: int | None = None
) -> list[int]:
    """Let this process have `devices` GPUs, and NCCL as `nccl` says of ranks, or of one; what it gathers is listed.

    nccl: "available", "version"; "refuses": there is no communicator; "fails" or "dies": at this collective it does.
    """
    gathers: list[int] = []
    told = {} if only_on not in (None, RANK) else nccl or {}
    cupy = CuPy(Path(folder))
    cupy.devices = devices
    cupy.cuda.Event = Event
    machine.cupy = lambda: cupy  # type: ignore[assignment]

    class NcclCommunicator:
        def __init__(self, ranks: int, name: bytes, rank: int) -> None:
            from mpi4py import MPI

            self.aborted, self.comm = False, MPI.COMM_WORLD.Dup()
            self.comm.Set_errhandler(MPI.ERRORS_RETURN)
            assert (ranks, rank) == (self.comm.size, self.comm.rank)
            assert self.comm.allgather(name) == [name] * ranks
            if told.get("refuses"):
                raise NcclError("NCCL_ERROR_INVALID_USAGE: invalid usage")

        def allGather(self, sent: int, found: int, count: int, kind: int, stream: int) -> None:
            assert kind == 1
            assert not self.aborted
            gathers.append(count)
            if len(gathers) == told.get("dies"):
                os.kill(os.getpid(), signal.SIGKILL)
            mine, all_ = (_bytes(at, size) for at, size in ((sent, count), (found, count * self.comm.size)))
            all_[:] = 255  # nothing of the update before
            Event.last = self.comm.Iallgather(mine.copy(), all_)

        def check_async_error(self) -> None:
            if len(gathers) == told.get("fails"):
                Event.last.Wait()  # all ranks are in it: before, one may still be in the meeting ahead of it
                raise NcclError("NCCL_ERROR_SYSTEM_ERROR: unhandled system error")

        def abort(self) -> None:
            self.aborted = True

    module: Any = types.ModuleType("cupy.cuda.nccl")
    module.available, module.NCCL_UINT8, module.NcclError = told.get("available", True), 1, NcclError
    module.get_version, module.NcclCommunicator = (lambda: told.get("version", 23203)), NcclCommunicator
    module.get_unique_id = lambda: os.urandom(128)
    sys.modules |= {"cupy": cupy, "cupy.cuda.nccl": module}
    return gathers


def _bytes(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
