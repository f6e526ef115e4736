"""Sums on GPUs over NCCL: the rows of all ranks go to each GPU in one collective, and are added up there in order.

NCCL's own reductions add up in an order that depends on the ranks; these sums have the bits of those on the host.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from fastmeta.ranks.flat import in_order
from fastmeta.ranks.launch import in_time
from fastmeta_kernels.contract import Array

SWITCH = "FASTMETA_NCCL"  # "0": never
WORD = 8  # bytes at whose multiples every array of a message begins
LOOKS = 1000  # at what NCCL and MPI say, before one at what CUDA says


class Ranks(Protocol):
    """What is asked of them."""

    mpi: Any

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def values(self, value: Any) -> list[Any]: ...


class Nccl:
    """A communicator of all ranks, each with a GPU of its own. Behind an error or a loss it can but `abort`."""

    def __init__(self, cupy: Any, nccl: Any, communicator: Any, ranks: int) -> None:
        self.cupy, self._nccl, self._communicator, self._ranks = cupy, nccl, communicator, ranks
        self.Error: type[Exception] = nccl.NcclError
        self._rooms: dict[str, Any] = {}

    def summed(self, rows: Any, losses: Array, counts: Sequence[int], look: Callable[[], None]) -> tuple[Any, Array]:
        """The sum (n,) of the rows (blocks, n) of all ranks, of which rank r has counts[r], and all losses.

        Rows and their sum lie on the GPU, losses on the host. One message of each rank to all: its losses, then its
        rows, with room for the most that one has. `look` is called while it is under way, and may raise.
        """
        most, size = max(counts), rows.shape[1] * rows.dtype.itemsize
        begin = most * losses.itemsize
        length = -(-(begin + most * size) // WORD) * WORD
        sent, found = self._kept("sent", length), self._kept("found", length * self._ranks)
        sent[: losses.nbytes].set(losses.view(np.uint8))
        sent[begin : begin + len(rows) * size].view(rows.dtype).reshape(rows.shape)[...] = rows
        stream, done = self.cupy.cuda.get_current_stream(), self.cupy.cuda.Event(disable_timing=True)
        self._communicator.allGather(sent.data.ptr, found.data.ptr, length, self._nccl.NCCL_UINT8, stream.ptr)
        done.record(stream)
        self._wait(done, look)
        heads = found.reshape(self._ranks, length)[:, :begin].get()
        ordered = []
        for rank, count in enumerate(counts):
            at = rank * length + begin
            ordered += list(found[at : at + count * size].view(rows.dtype).reshape(count, -1))
        parts = [np.ascontiguousarray(head).view(losses.dtype)[:n] for head, n in zip(heads, counts, strict=True)]
        return in_order(ordered), np.concatenate(parts)

    def abort(self) -> None:
        """Give up what is under way, and the communicator."""
        self._communicator.abort()

    def _wait(self, done: Any, look: Callable[[], None]) -> None:
        """Until `done`: a rank that is lost leaves NCCL waiting for ever, so that others have to be asked."""
        looks = 0
        while not done.done:
            look()
            self._communicator.check_async_error()
            looks += 1
            if looks % LOOKS == 0:
                self.cupy.cuda.runtime.memGetInfo()  # raises where the GPU has failed, of which the event says nothing

    def _kept(self, name: str, size: int) -> Any:
        """Room of so many bytes, the same from update to update."""
        if name not in self._rooms or len(self._rooms[name]) != size:
            self._rooms[name] = self.cupy.zeros(size, np.uint8)
        return self._rooms[name]


def opened(cupy: Any, ranks: Ranks) -> Nccl | None:
    """NCCL among the ranks, with the GPU that each has taken; None, of which the first says why, where one cannot."""
    nccl = _found()
    if nccl is None:
        offered = {"why": "it is switched off" if os.environ.get(SWITCH) == "0" else "CuPy finds none"}
    else:
        place = f"{ranks.mpi.Get_processor_name()} {cupy.cuda.Device().pci_bus_id}"
        offered = {"place": place, "version": str(nccl.get_version())}
    if why := _against(ranks.values(offered)):
        _tell(ranks, why)
        return None
    name, failed = ranks.values(_tried(nccl, nccl.get_unique_id) if ranks.rank == 0 else None)[0]
    made = None
    if not failed:
        with in_time():  # it waits for all
            made, failed = _tried(nccl, lambda: nccl.NcclCommunicator(ranks.size, name, ranks.rank))
    failures = [f"rank {rank} says {said}" for rank, said in enumerate(ranks.values(failed)) if said]
    if not failures:
        return Nccl(cupy, nccl, made, ranks.size)
    if made is not None:
        made.abort()
    _tell(ranks, failures[0])
    return None


def _tried(nccl: Any, what: Callable[[], Any]) -> tuple[Any, str]:
    """What a call gives, or None and the words of NCCL's error."""
    try:
        return what(), ""
    except nccl.NcclError as error:
        return None, str(error)


def _found() -> Any:
    """CuPy's NCCL; None where there is none or it is not wanted."""
    if os.environ.get(SWITCH) == "0":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy's, that the library is not there
        try:
            nccl = importlib.import_module("cupy.cuda.nccl")
        except ImportError:
            return None
    return nccl if nccl.available else None


def _against(offered: list[dict[str, str]]) -> str:
    """What speaks against NCCL among ranks that offer these; "" where nothing does."""
    for rank, one in enumerate(offered):
        if "why" in one:
            return f"{one['why']} on rank {rank}"
    if len(versions := {one["version"] for one in offered}) > 1:
        return f"ranks have versions {', '.join(sorted(versions))}"
    place, count = Counter(one["place"] for one in offered).most_common(1)[0]
    return f"{count} ranks share the GPU {place}" if count > 1 else ""


def _tell(ranks: Ranks, why: str) -> None:
    if ranks.rank == 0:
        print(f"Slopes go through the host, not by NCCL: {why}.", file=sys.stderr, flush=True)
