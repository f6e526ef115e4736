"""Whole updates in one call: the meta-gradients of several meta-batches, each followed by a step of Adam.

To the bits of `meta_gradient` and `adam.adam` in turn. What is between two meta-gradients is compiled: workers that
carried out the one still look for offers when the next is made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.cpu.execution.adam import Numbers, step_of_adam
from fastmeta_kernels.cpu.execution.call import OUTPUTS, STREAMS, call_of
from fastmeta_kernels.cpu.execution.threads import arranged
from fastmeta_kernels.cpu.execution.workers import crew, lead
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.job import address, integers_at
from fastmeta_kernels.cpu.machine.compiler import carray, types
from fastmeta_kernels.cpu.machine.jit import for_each_dtype, lane_of, symbol
from fastmeta_kernels.request import Request


class Letter(NamedTuple):
    """What a call says, as int64 words."""

    updates: int
    chunks: int
    row: int  # scalars from one chunk's sums to the next's
    size: int  # P
    means: int  # sums that are results: P, and the rates'
    losses: int  # of an update
    streams: int  # address of the job's streams
    inputs: int  # streams that are another array's in each update
    places: int  # address of their places among the streams (inputs,)
    addresses: int  # address of their arrays' addresses (updates, inputs)
    begun: int  # sums of a chunk that its first task stores; the others begin at 0


def _updates(board, slots, count, words, sums, losses, states, numbers):
    """Update after update; how many there were before one whose numbers are not all finite."""
    letter = carray(words, 11)
    updates, chunks = (letter[0], letter[1])
    row, size = (letter[2], letter[3])
    means, many = (letter[4], letter[5])
    total, found = (carray(sums, chunks * row), carray(losses, updates * many))
    state, number = (carray(states, (updates + 1) * 3 * size), carray(numbers, updates * 5))
    for u in range(updates):
        for i in range(letter[7]):
            place = integers_at(letter[8], i, 1)[0]
            integers_at(letter[6], place * 3, 1)[0] = integers_at(letter[9], u * letter[7] + i, 1)[0]
        for c in range(chunks):
            for i in range(c * row + letter[10], (c + 1) * row):
                total[i] = 0.0
        lead(board, slots, count)
        for c in range(1, chunks):
            for i in range(means):
                total[i] += total[c * row + i]
        share = total.dtype.type(number[5 * u + 4])
        odd = 0
        for i in range(means):
            total[i] *= share
            odd |= not np.isfinite(total[i])
        for i in range(u * many, (u + 1) * many):
            odd |= not np.isfinite(found[i])
        now, then = (state[3 * u * size :], state[3 * (u + 1) * size :])
        n = number[5 * u :]
        odd |= step_of_adam(
            now, total, now[size:], now[2 * size :], then, then[size:], then[2 * size :], size, n[0], n[1], n[2], n[3]
        )
        if odd:
            return u
    return updates


@for_each_dtype
def compiled(dtype: Any) -> Any:
    """All of it for a dtype, compiled or loaded."""
    lane, word = lane_of(dtype), ctypes.c_int64
    pointers = types.CPointer(types.int64), *[types.CPointer(lane)] * 3, types.CPointer(types.float64)
    found = symbol(f"fastmeta_updates_{lane}", types.int64(*[types.int64] * 3, *pointers), _updates, exact=True)
    return ctypes.CFUNCTYPE(word, *[word] * 8)(found)


def run_updates(
    request: Request,
    states: Array,
    sets: dict[str, Array],
    numbers: Sequence[Numbers],
) -> Array:
    """Losses (n, T) of the query sets; theta and both moments after each update go to states (n + 1, 3, P).

    states: its first are given. sets: the arrays of the sets of all updates, one behind the other, and the rates;
    numbers: those of `adam.adam`, for each. There are fewer updates than these where something is not finite in the
    next.
    """
    count, size = len(numbers), states.shape[2]
    names = [name for name in sets if name != "rates"]
    one = {name: sets[name][: request.tasks] for name in names}
    given = {"theta": states[0, 0], "rates": sets["rates"]} | one
    call = call_of(request, given)
    losses = np.zeros((count, call.ends[3]), call.dtype)
    places = np.array([job.THETA, *(STREAMS[name] for name in names), *OUTPUTS])
    begins = [address(states), *(address(sets[name]) for name in names), *(address(losses) + call.places).tolist()]
    strides = [states[0].nbytes, *(one[name].nbytes for name in names), *[losses[0].nbytes] * len(OUTPUTS)]
    addresses = begins + np.arange(count)[:, None] * strides
    letter = np.array(
        Letter(
            count, len(call.sums), call.sums.shape[1], size, sum(call.sizes[:2]), losses.shape[1],
            address(call.streams), len(places), address(places), address(addresses),
            call.sums.shape[1] - call.zeroed_sums.shape[1],
        )
    )  # fmt: skip
    each = np.array([(*row, call.share) for row in numbers])
    pointers = [address(array) for array in (letter, call.sums, losses, states, each)]
    held, before = call._read(given), call.streams.copy()
    try:
        go = compiled(call.dtype)
        done = crew().run(*arranged(call.work), lambda board, slots, most: go(board, slots, most, *pointers))
    finally:
        call.streams[:] = before
    del held
    return losses[:done, : call.ends[1]]
