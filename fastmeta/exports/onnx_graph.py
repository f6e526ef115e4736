"""ONNX nodes, written one after the other: what each gives is a name for the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from fastmeta_kernels.contract import Array


class Graph:
    """Nodes and constants of a graph, or of a loop's body, which sees the names of the graph around it."""

    def __init__(self, outer: Graph | None = None) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names: Iterator[int] = outer._names if outer else count()

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """A node with one output, which is named `out` where that is given."""
        return self.ops(kind, *inputs, out=[out or self._name(kind)], **attributes)[0]

    def ops(self, kind: str, *inputs: str, out: Sequence[str], **attributes: Any) -> list[str]:
        """A node with several outputs."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), list(out), **attributes))
        return list(out)

    def two(self, kind: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """A node with two outputs."""
        first, second = self.ops(kind, *inputs, out=[self._name(kind), self._name(kind)], **attributes)
        return first, second

    def constant(self, values: Any, name: str | None = None) -> str:
        """float32 or int64 values as an initializer."""
        from onnx import numpy_helper

        array: Array = np.asarray(values)
        array = np.ascontiguousarray(array, np.int64 if array.dtype.kind in "iu" else np.float32).reshape(array.shape)
        name = name or self._name("constant")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def _name(self, kind: str) -> str:
        return f"{kind.lower()}_{next(self._names)}"
