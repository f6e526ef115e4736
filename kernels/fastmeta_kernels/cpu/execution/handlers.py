"""Handlers: what carries out the instructions of a family, compiled when a program first has one of them.

A handler is machine code of its own, which a job finds by the number of an instruction: a network pays for the layers
that it has, and no compiler sees all kernels at once, which takes it more than twice as long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.execution import lane_handlers, layer_handlers, loop_handlers  # noqa: F401 (they register themselves)
from fastmeta_kernels.cpu.execution.batch import compile_shares
from fastmeta_kernels.cpu.execution.handling import HANDLERS, LANE_HANDLERS
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.machine.jit import compile_linked, lane_of, linked_address
from fastmeta_kernels.cpu.machine.lane_product import compile_lane_product
from fastmeta_kernels.cpu.machine.product import compile_product

MOST_KINDS = 128  # of instructions
NEEDED = {op.HEAD: ("phase",), op.HEAD_BLOCKS: ("phase",)}  # what a handler calls by name
_tables: dict[Any, NDArray[np.int64]] = {}  # dtype, and whether in lanes -> the address of each kind's handler
_lock = threading.Lock()


def handlers(dtype: Any, kinds: Iterable[int], in_lanes: bool = False) -> NDArray[np.int64]:
    """The table of handlers, ready for instructions of these kinds: compiled, or loaded, with what calls them."""
    lane, names = lane_of(dtype), LANE_HANDLERS if in_lanes else HANDLERS
    with _lock:
        (compile_lane_product if in_lanes else compile_product)(lane)
        compile_shares(lane)
        table = _tables.setdefault((dtype, in_lanes), np.zeros(MOST_KINDS, np.int64))
        for kind in kinds:
            if table[kind] == 0:
                compile_linked(lane, *NEEDED.get(kind, ()), names[kind])
                table[kind] = linked_address(names[kind], lane)
    return table
