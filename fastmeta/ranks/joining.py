"""How work on many ranks begins and ends: all of them in it together, or none."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType

from fastmeta.ranks import launch
from fastmeta.ranks.group import Group
from fastmeta.ranks.transport import Transport


@cache
def joined(ranks: str) -> Group:
    """The ranks that this process is one of, the same at each call; errors as of `launch.world`.

    From here on an error that ends the program of one ends the others too.
    """
    group, before = Group(Transport(launch.world(ranks))), sys.excepthook

    def end_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if group.size > 1 and not group.is_known(error):
            group.abort(error)

    sys.excepthook = end_all
    return group


@contextmanager
def on_ranks(ranks: str | None, device: str = "cpu") -> Iterator[Group | None]:
    """The ranks that `ranks` names, None without: within, an error of one of them ends all.

    For device "cuda" each takes a GPU of its machine, its number there modulo how many there are.
    """
    if ranks is None:
        yield None
        return
    group = joined(ranks)
    if group.alone:
        raise ValueError(f'ranks="{ranks}" must be left out in a callback, where the first rank is alone.')
    group.agreed = None
    try:
        if device == "cuda" and group.gpu is None:
            group.gpu = take_gpu(group)
        yield group
    except BaseException as error:
        group.leave(error)
        raise
    group.endings.deliver()


@contextmanager
def alone(ranks: str | None) -> Iterator[None]:
    """Where this rank does what the others do not: it may not work with them."""
    if ranks is None:
        yield
        return
    group = joined(ranks)
    group.alone = True
    try:
        yield
    finally:
        group.alone = False


def writes(ranks: str | None) -> bool:
    """Whether this process is the one that writes."""
    return ranks is None or joined(ranks).first


def speaks(error: BaseException) -> bool:
    """Whether this process is the one that tells the user of an error: it alone, or the first of those that have it."""
    group = joined("mpi") if joined.cache_info().currsize else None
    return group is None or not group.is_known(error) or group.spokesman


def take_gpu(group: Group) -> int:
    """Let this process compute on the GPU whose number is its own on this machine, modulo how many there are.

    Raises as `device="cuda"` does where there is no GPU.
    """
    cupy = importlib.import_module("fastmeta_kernels.cuda.machine.machine").cupy()
    number = group.on_this_machine() % int(cupy.cuda.runtime.getDeviceCount())
    cupy.cuda.Device(number).use()
    return number
