"""The ranks of a job: they meet, add up, and go on without those that are lost."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastmeta.ranks import digests
from fastmeta.ranks.blocks import dealt
from fastmeta.ranks.endings import Endings
from fastmeta.ranks.nccl import opened
from fastmeta.ranks.transport import Lost, RankError, Transport
from fastmeta_kernels.contract import Array

FINE, FAILED = 0, -1  # what a rank says where all meet; or the number of a signal to end
Mine = TypeVar("Mine")
Value = TypeVar("Value")


class Sums(NamedTuple):
    """What an update adds up, of the blocks of one rank: one row and one loss a block."""

    rows: Array  # (blocks, n), of `Group.arrays`
    losses: Array  # (blocks,) float64


class Group:
    """Ranks 0 .. size - 1. Rank 0 is `first`: it alone writes. After a loss there are fewer, numbered anew.

    Errors and signals of one rank end all of them where they next meet. One that is killed is survived where MPI can,
    as Open MPI under `--with-ft ulfm`: what was interrupted is done again by the others.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.endings = Endings()
        self.agreed: BaseException | None = None  # with which all ranks end
        self.spokesman = self.first  # whether this rank tells of it
        self.alone = False  # whether this rank is where the others are not
        self.gpu: int | None = None  # which one this process computes on
        self._asked = False  # whether NCCL can be used
        self._torn = False  # whether the others may wait for this rank where it is no more

    @property
    def rank(self) -> int:
        """Which of them this process is."""
        return self._transport.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self._transport.size

    @property
    def first(self) -> bool:
        """Whether this rank is the one that writes."""
        return self.rank == 0

    @property
    def arrays(self) -> Any:
        """The module of the arrays that are added up: NumPy, or CuPy where NCCL sends them."""
        return np if self._transport.nccl is None else self._transport.nccl.cupy

    def on_this_machine(self) -> int:
        """This rank's number among those of its machine."""
        return self._surely(lambda: None, lambda _: self._transport.on_this_machine())

    def use_nccl(self) -> None:
        """Add up on GPUs from here on, where all ranks can; they are asked once."""
        if self.size > 1 and not self._asked:
            self._asked, cupy = True, importlib.import_module("cupy")
            self._transport.nccl = self._surely(lambda: None, lambda _: opened(cupy, self._transport))

    def meet(self, error: BaseException | None = None) -> None:
        """Wait for all ranks. Where one brings an error, it ends all: its own rank by it, the others by RankError."""
        words = self._transport.words(self.endings.noted if error is None else FAILED)
        if (words == FAILED).any():
            said = self._transport.values("" if error is None else f"{type(error).__name__}: {error}")
            rank = int(np.argmax(words == FAILED))
            raise self.all_end(error or RankError(f"rank {rank} of {self.size} failed: {said[rank]}"), rank)
        if words.any():
            try:
                self.endings.obey(int(words[words != FINE][0]))
            except BaseException as ending:
                raise self.all_end(ending)  # noqa: B904

    def all_end(self, error: BaseException, spokesman: int = 0) -> BaseException:
        """`error`, which all ranks raise now; one of them tells of it."""
        self.agreed, self.spokesman = error, self.rank == spokesman
        return error

    def leave(self, error: BaseException) -> None:
        """End the others, at their next meeting, by an error of this rank; nothing where all know it already."""
        if self.is_known(error):
            return
        if self._torn or isinstance(error, self._transport.mpi.Exception):
            self.abort(error)
        try:
            self.meet(error)
        except BaseException:
            if self.agreed is not error:
                self.abort(error)

    def is_known(self, error: BaseException | None) -> bool:
        """Whether an error is the one that all ranks end by, or was made of it."""
        while error is not None and error is not self.agreed:
            error = error.__context__
        return error is not None

    def abort(self, error: BaseException) -> None:
        """End all ranks at once: nobody can be told."""
        print(f"rank {self.rank} of {self.size} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        self._transport.mpi.COMM_WORLD.Abort(1)

    def same(self, names: dict[str, str]) -> None:
        """ValueError on all ranks where one of the `names` is not the same text on all of them."""
        if found := digests.differing(self.gathered(lambda: names)):
            raise self.unlike(found)

    def unlike(self, found: str) -> BaseException:
        """What all ranks raise where they have found what differs between them."""
        said = f"ranks={self.size} must run the same program on the same data: {found} "
        return self.all_end(ValueError(said + "Start all with one environment and the same arguments."))

    def gathered(self, compute: Callable[[], Value]) -> list[Value]:
        """What `compute` gives on each rank, on all of them; done again by all where one is lost on the way."""

        found = self._surely(lambda: pickle.dumps(compute()), self._transport.values)
        return [pickle.loads(value) for value in found]

    def summed(self, tasks: int, compute: Callable[[], Sums]) -> tuple[float, Array]:
        """The sums of losses and of rows (n,) over all blocks of `tasks` tasks, added in the order of the blocks.

        `compute` gives those of the blocks that are dealt to this rank as it is at the call: where one is lost on the
        way, all is done again.
        """

        def add(mine: Sums) -> tuple[float, Array]:
            counts = [len(dealt(tasks, rank, self.size)) for rank in range(self.size)]
            row, losses = self._transport.summed(mine.rows, mine.losses, counts)
            return float(np.add.accumulate(losses)[-1]), row

        return self._surely(compute, add)

    def _surely(self, compute: Callable[[], Mine], exchange: Callable[[Mine], Value]) -> Value:
        """What all ranks make, by `exchange`, of what each has computed; an error of `compute` on one ends all.

        All that are left have it, or do both again without the lost. It counts when all have agreed: where a rank is
        lost, MPI may give some of the others a part of it.
        """
        while True:
            mine: Any = None
            error = None
            try:
                mine = compute()
            except BaseException as raised:
                error = raised
            with self.endings:
                try:
                    self.meet(error)
                    self._torn = True  # behind an error of it the others may wait in it: they are not met any more
                    found = exchange(mine)
                    self._torn = False
                    if self._transport.agree(True):
                        return found
                except Lost as lost:
                    self._torn = False
                    if str(lost):
                        print(f"rank {self.rank} of {self.size}: {lost}", file=sys.stderr, flush=True)
                    self._transport.agree(False)
                before = self.size
                self._transport.shrink()
            if self.first:
                said = f"{before - self.size} of {before} ranks were lost; {self.size} go on, to the same bits."
                print(said, file=sys.stderr, flush=True)
