"""What ranks send each other over MPI: words, values, sums in the order of the blocks; what is left after a loss."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastmeta.ranks.flat import in_order
from fastmeta.ranks.nccl import Nccl
from fastmeta_kernels.contract import Array
from fastmeta_kernels.host import is_elsewhere

SECONDS_TO_END = 10
SURVIVES = "OMPI_MCA_mpi_ft_enable"  # set by mpiexec --with-ft ulfm
NO_CURE = (
    "A rank was lost. Start again on any number of ranks with resume=True, or use an MPI that goes on without it: "
    "Open MPI 5, mpiexec --with-ft ulfm."
)


class RankError(RuntimeError):
    """Another rank failed, or was lost without a cure; the message says which, and its error."""


class Lost(Exception):
    """A rank was lost: whoever is in the middle of something finds out by this."""


class Transport:
    """One communicator; every call but `revoke`, `agree` and `shrink` raises Lost where a rank of it is lost.

    After Lost all that are left call `agree(False)`, then `shrink` (Bland et al. 2013, "Post-failure recovery of MPI
    communication capability", doi 10.1177/1094342013488238).
    """

    def __init__(self, mpi: Any) -> None:
        self.mpi = mpi
        self._comm = mpi.COMM_WORLD.Dup()
        self._comm.Set_errhandler(mpi.ERRORS_RETURN)
        names = ("ERR_PROC_FAILED", "ERR_PROC_FAILED_PENDING", "ERR_REVOKED")
        self._losses = {getattr(mpi, name) for name in names if hasattr(mpi, name)}
        self._survives = os.environ.get(SURVIVES, "0") not in ("0", "false")
        self._rooms: dict[str, Array] = {}
        self.nccl: Nccl | None = None  # which adds up on GPUs
        self._doubt: BaseException | None = None  # an error that may be of a lost rank, though it says otherwise

    @property
    def rank(self) -> int:
        """Which of them this process is."""
        return int(self._comm.rank)

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self._comm.size)

    def on_this_machine(self) -> int:
        """This rank's number among those of its machine."""
        with self._noticed():
            local = self._comm.Split_type(self.mpi.COMM_TYPE_SHARED)
            number = int(local.rank)
            local.Free()
        return number

    def words(self, word: int) -> Array:
        """(size,): the word of each rank."""
        found = np.zeros(self.size, np.int64)
        with self._noticed():
            self._comm.Allgather(np.array([word], np.int64), found)
        return found

    def values(self, value: Any) -> list[Any]:
        """The value of each rank; what cannot be read came from a lost one."""
        with self._noticed():
            try:
                found: list[Any] = self._comm.allgather(value)
            except (pickle.UnpicklingError, EOFError) as error:
                raise Lost from error
        return found

    def summed(self, rows: Array, losses: Array, counts: Sequence[int]) -> tuple[Array, Array]:
        """The sum (n,) of the rows (blocks, n) of all ranks, of which rank r has counts[r], and all losses.

        Rows on GPUs are added up there, by NCCL. On the host they are added up in order, a part of the columns on each
        rank; two messages between any two ranks, of blocks x n / ranks values and of n / ranks.
        """
        ranks = self.size
        if self.nccl is not None and is_elsewhere(rows):
            return self._summed_on_gpus(self.nccl, rows, losses, counts)
        if ranks == 1:
            return in_order(rows), losses
        blocks, size = rows.shape
        part = -(-size // ranks)
        send = self._kept("send", (ranks, blocks, part), rows.dtype)
        for rank, columns in enumerate(np.split(rows, range(part, ranks * part, part), axis=1)):
            send[rank, :, : columns.shape[1]] = columns
        parts = self._kept("parts", (sum(counts), part), rows.dtype)
        here, there = [blocks * part] * ranks, [count * part for count in counts]
        kind = self.mpi.FLOAT if rows.itemsize == 4 else self.mpi.DOUBLE
        with self._noticed():
            self._comm.Alltoallv([send, (here, _starts(here)), kind], [parts, (there, _starts(there)), kind])
        mine = np.concatenate([in_order(parts).view(np.uint8), losses.view(np.uint8)])
        sizes = [part * rows.itemsize + count * losses.itemsize for count in counts]
        found = np.zeros(sum(sizes), np.uint8)
        with self._noticed():
            self._comm.Allgatherv(mine, [found, (sizes, _starts(sizes)), self.mpi.BYTE])
        pieces = np.split(found, _starts(sizes)[1:])
        whole = np.concatenate([piece[: part * rows.itemsize] for piece in pieces]).view(rows.dtype)[:size]
        return whole, np.concatenate([piece[part * rows.itemsize :] for piece in pieces]).view(np.float64)

    def _summed_on_gpus(self, nccl: Nccl, rows: Array, losses: Array, counts: Sequence[int]) -> tuple[Array, Array]:
        """The same by NCCL, whose errors are losses where this MPI goes on without: through the host, then."""
        try:
            return nccl.summed(rows, losses, counts, self.look)
        except nccl.Error as error:
            if not self._survives:
                raise RankError(f"NCCL failed: {error} Without it: FASTMETA_NCCL=0.") from error
            self._comm.Revoke()
            raise Lost(f"NCCL failed, slopes now go through the host: {error}") from error

    def look(self) -> None:
        """Find out whether a rank is lost, without waiting for any."""
        with self._noticed():
            self._comm.Iprobe()

    def agree(self, fine: bool) -> bool:
        """Whether all ranks that are left say so, and none was lost: the same answer on all of them."""
        try:
            with self._noticed():
                return bool(self._comm.Agree(int(fine)))
        except NotImplementedError:
            return fine
        except Lost:
            return False

    def shrink(self) -> None:
        """Go on without those that are lost; ranks are numbered anew, in the same order.

        MPI's own end may then wait for the lost ones for ever: it is given SECONDS_TO_END. Where none was
        lost, what was taken for a sign of it is raised.
        """
        before = self.size
        self._rooms.clear()
        if self.nccl is not None:
            self.nccl.abort()
            self.nccl = None
        self._comm.Revoke()
        self._comm = self._comm.Shrink()
        self._comm.Set_errhandler(self.mpi.ERRORS_RETURN)
        atexit.unregister(_end_in_time)
        atexit.register(_end_in_time)
        doubt, self._doubt = self._doubt, None
        if doubt is not None and self.size == before:
            raise doubt

    def _kept(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Room for messages, the same from update to update: new memory takes longer than what is done in it."""
        room = self._rooms.get(name)
        if room is None or room.shape != shape or room.dtype != dtype:
            room = self._rooms[name] = np.zeros(shape, dtype)
        return room

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        """A lost rank is Lost, which all others find out; RankError where this MPI cannot go on without one."""
        try:
            yield
        except self.mpi.Exception as error:
            if error.Get_error_class() not in self._losses:
                if not self._survives:
                    raise
                self._doubt = error  # Open MPI has been seen to call a lost rank MPI_ERR_OTHER
            try:
                self._comm.Revoke()
            except NotImplementedError as missing:
                raise RankError(NO_CURE) from missing
            raise Lost from error


def _end_in_time() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS_TO_END)


def _starts(counts: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(counts[:-1]).tolist()]
