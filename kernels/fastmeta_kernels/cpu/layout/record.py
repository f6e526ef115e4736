"""Records: rows of an int64 matrix whose fields have names, in Python and, in place, in compiled code."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

import numpy as np

from fastmeta_kernels.cpu.machine.compiler import RecordModel, from_dtype, intrinsic, register_default, types


def record_of(names: str, count: int = 0) -> np.dtype[np.void]:
    """A record of int64 fields, or of another type where one is given (`name:f8`), as long as `count` of them."""
    fields = [name.partition(":") for name in names.split()]
    return np.dtype(
        {
            "names": [name for name, _, _ in fields],
            "formats": [kind or "i8" for _, _, kind in fields],
            "offsets": [8 * i for i in range(len(fields))],
            "itemsize": 8 * max(count, len(fields)),
        },
        align=True,
    )


def row_as(dtype: np.dtype[np.void]) -> Any:
    """A function of compiled code: row `index` of a matrix as a record of that dtype."""
    record = record_type(dtype)

    @intrinsic
    def row(context: Any, matrix: Any, index: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return seen_as(context, builder, record, matrix, *args)

        return record(matrix, types.int64), emit

    return row


class ShortRecord(types.Record):
    """A record with a short name: compiled functions are named after the types of their arguments."""

    def __init__(self, fields: Any, size: int, aligned: bool) -> None:
        super().__init__(fields, size, aligned)
        self.name = f"Record{zlib.crc32(self.name.encode()):08x}"


register_default(ShortRecord)(RecordModel)


@cache
def record_type(dtype: np.dtype[np.void]) -> Any:
    """The type of a record in compiled code."""
    of: Any = from_dtype(dtype)
    fields = [(name, {"type": field.type, "offset": field.offset}) for name, field in of.fields.items()]
    return ShortRecord(fields, of.size, of.aligned)


def seen_as(context: Any, builder: Any, record: Any, matrix: Any, values: Any, index: Any) -> Any:
    """The code of `row_as`, for a type of Numba's."""
    array = context.make_array(matrix)(context, builder, values)
    start = builder.mul(index, builder.extract_value(array.shape, 1))
    return builder.bitcast(builder.gep(array.data, [start]), context.get_value_type(record))
