"""How a process learns that it is one of many: what launchers leave in the environment, and mpi4py."""

from __future__ import annotations

import faulthandler
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from fastmeta import checks

RANKS = ("mpi",)
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")  # Open MPI; MPICH and what descends from it
EXTRA = 'pip install "fastmeta[mpi]"'
COMMAND = "mpiexec -n 4"
SECONDS_TO_START = 120.0


def launched() -> int:
    """How many processes a launcher says that it has started with this one; 0 where there is no launcher."""
    return max((int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdecimal()), default=0)


def joint() -> str | None:
    """The ranks of this process where a launcher has started several of it, else None."""
    return RANKS[0] if launched() > 1 else None


def world(ranks: str) -> Any:
    """mpi4py's MPI module; ModuleNotFoundError or ValueError, which say what to install or to type."""
    checks.choice("ranks", ranks, RANKS)
    if find_spec("mpi4py") is None:
        raise ModuleNotFoundError(f'ranks="mpi" needs mpi4py and an MPI library: {EXTRA}.')
    try:
        MPI = _all_started()
    except (ImportError, RuntimeError) as error:
        raise ModuleNotFoundError(
            f'ranks="mpi" needs an MPI library that mpi4py can load ({str(error).splitlines()[0]}). {EXTRA} brings '
            "one; on a cluster load its module, then: pip install --no-binary mpi4py mpi4py."
        ) from error
    if MPI.COMM_WORLD.size == 1 and not launched():
        raise ValueError(
            f'ranks="mpi" must be started by a launcher. Type {COMMAND} before the command, as in '
            f"`{COMMAND} python program.py` (root: {COMMAND} --allow-run-as-root)."
        )
    if MPI.COMM_WORLD.size < launched():
        raise ValueError(
            f'ranks="mpi" must have one MPI: the launcher started {launched()} processes, of which mpi4py\'s library, '
            f"{MPI.Get_library_version().split(',')[0].strip()}, knows {MPI.COMM_WORLD.size}. Start them with the "
            "launcher of that library, or on a cluster: pip install --no-binary mpi4py mpi4py."
        )
    return MPI


def _all_started() -> Any:
    """mpi4py's MPI module, whose import waits for all ranks."""
    with in_time():
        return importlib.import_module("mpi4py.MPI")


@contextmanager
def in_time() -> Iterator[None]:
    """A context that waits for all ranks; where one was lost before, that is for ever.

    So after SECONDS_TO_START this process ends with status 1, and the stack that it then shows names who waited.
    """
    faulthandler.dump_traceback_later(SECONDS_TO_START, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
