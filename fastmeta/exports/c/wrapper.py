"""A model that adapts, from Python without NumPy.

Compile it first: cc -std=c99 -O3 -shared -fPIC NAME.c -o libNAME.so -lm
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

NAME = "model"
INPUTS = 2
OUTPUTS = 2
STEPS = 1  # 0: class means, no inner steps
LABELS = True  # otherwise float targets
HASH = "00000000"
STATUS = (
    "",
    "too few or too many samples or steps",
    f"a label is not 0 .. {OUTPUTS - 1}",
    "a NaN, an infinity, or divergence",
    "adapt must come before predict",
    "these bytes are not what save gave for this model",
)


class Model:
    """A state and its scratch. One for each thread that adapts.

    Methods raise ArithmeticError where numbers are not finite, ValueError where they do not fit.
    """

    def __init__(self, library: str | None = None) -> None:
        path = Path(library) if library else Path(__file__).with_name(f"lib{NAME}.so")
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: cc -std=c99 -O3 -shared -fPIC {NAME}.c -o lib{NAME}.so -lm")
        self._library = ctypes.CDLL(str(path.resolve()))
        sizes = (ctypes.c_uint32 * 4).in_dll(self._library, f"{NAME}_sizes")
        if sizes[3] != int(HASH, 16):
            raise ValueError(f"{path} is of another export than {__file__}. Compile {NAME}.c again.")
        self._state = ctypes.create_string_buffer(sizes[0])
        self._work = ctypes.create_string_buffer(sizes[1])
        self._saved = sizes[2]
        self._call("self_test").restype = ctypes.c_float
        self.reset()

    def reset(self) -> None:
        """Forget the task."""
        self._call("reset")(self._state)

    def adapt(self, x: Iterable[Any], y: Iterable[Any], steps: int = STEPS) -> None:
        """Learn from samples x, numbers in any nesting, and labels or targets y."""
        values, targets = _floats(x), array("i", y) if LABELS else _floats(y)
        count = len(values) // INPUTS
        if len(values) != count * INPUTS or len(targets) != count * (1 if LABELS else OUTPUTS):
            raise ValueError(
                f"x of {len(values)} numbers and y of {len(targets)} must be samples of {INPUTS}, one target each."
            )
        arguments = [_pointer(values), _pointer(targets), count] + ([steps] if STEPS else [])
        self._check(self._call("adapt")(self._state, self._work, *arguments))

    def outputs(self, x: Iterable[Any]) -> list[list[float]]:
        """Outputs, logits where the model classifies, of each sample."""
        values = _floats(x)
        count = len(values) // INPUTS
        if len(values) != count * INPUTS:
            raise ValueError(f"x of {len(values)} numbers must be samples of {INPUTS}.")
        found = (ctypes.c_float * (count * OUTPUTS))()
        self._check(self._call("predict")(self._state, self._work, _pointer(values), count, found))
        return [list(found[i : i + OUTPUTS]) for i in range(0, count * OUTPUTS, OUTPUTS)]

    def predict(self, x: Iterable[Any]) -> list[Any]:
        """Labels where the model classifies, otherwise outputs."""
        found = self.outputs(x)
        return [row.index(max(row)) for row in found] if LABELS else found

    def save(self) -> bytes:
        """What the task taught, to keep."""
        room = ctypes.create_string_buffer(self._saved)
        self._call("save")(self._state, room)
        return room.raw

    def restore(self, saved: bytes) -> None:
        """The state that `save` gave; ValueError where the bytes are damaged or of another model."""
        self._check(self._call("restore")(self._state, saved, ctypes.c_uint32(len(saved))))

    def self_test(self) -> float:
        """The worst difference from fastmeta's float64 outputs, over the largest of them; forgets the task."""
        worst: float = self._call("self_test")(self._state, self._work)
        return worst

    def _call(self, name: str) -> Any:
        return getattr(self._library, f"{NAME}_{name}")

    def _check(self, status: int) -> None:
        if status:
            kind = ArithmeticError if STATUS[status].startswith("a NaN") else ValueError
            raise kind(f"{NAME}: {STATUS[status]}.")


def _floats(values: Any) -> array[float]:
    try:
        view = memoryview(values)
        if view.format == "f" and view.c_contiguous:
            return array("f", view.tobytes())
    except TypeError:
        pass
    return array("f", _numbers(values))


def _numbers(values: Any) -> Iterator[float]:
    for value in values:
        if hasattr(value, "__iter__"):
            yield from _numbers(value)
        else:
            yield float(value)


def _pointer(values: array[Any]) -> Any:
    return ctypes.c_void_p(values.buffer_info()[0])
