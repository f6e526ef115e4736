"""Class means in ONNX: embeddings averaged by their labels, and how similar others are to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta.exports.onnx_graph import Graph
from fastmeta.exports.onnx_graphs import OnnxGraphs
from fastmeta.exports.onnx_layers import forward

LOWEST = float(np.finfo(np.float32).min)


class PrototypeGraphs(OnnxGraphs):
    """Inputs x_support, y_support; outputs prototypes (K, D), counts (K,). A class without samples has -FLT_MAX."""

    def adapt_and_predict(self) -> tuple[bytes, bytes]:
        """Both graphs."""
        model, g = self.model, Graph()
        tensors = {name: g.constant(values, name) for name, values in self.arrays.items()}
        z, _, affine = forward(g, self.net, tensors, self.nchw(g, "x_support"), 0, self.layers)
        z = self._unit(g, z) if model.metric == "centroid" else z
        levels = g.constant(np.array([0.0, 1.0]))
        one_hot = g.op("OneHot", "y_support", g.constant(np.int64(model.outputs)), levels, axis=-1)
        g.op("ReduceSum", one_hot, g.constant([0]), keepdims=0, out="counts")
        most = g.op("Unsqueeze", g.op("Max", "counts", g.constant(np.float32(1))), g.constant([1]))
        g.op("Div", g.op("Gemm", one_hot, z, transA=1), most, out="prototypes")
        results: dict[str, Any] = {"prototypes": [model.outputs, self.net.outputs], "counts": [model.outputs]}
        results |= self.outputs(g, affine if self.held else {})
        given = {"x_support": self.samples("n"), "y_support": self.targets("n")}
        adapt = self.finished(g, self.infos(given), results)
        p = Graph()
        own = {name: p.constant(values, name) for name, values in self.arrays.items()}
        own |= {f"{name}.{part}": f"phi.{name}.{part}" for name in self.norms for part in ("slope", "offset")}
        q, _, _ = forward(p, self.net, own, self.nchw(p, "x_query"), 0, self.layers, held=self.held)
        absent = p.op("Less", "counts", p.constant(np.float32(0.5)))
        p.op("Where", absent, p.constant(np.float32(LOWEST)), self._similarity(p, q), out="outputs")
        inputs = [self.info(name, list(shape)) for name, shape in results.items()]
        inputs += self.infos({"x_query": self.samples("m")})
        return adapt, self.finished(p, inputs, {"outputs": ["m", model.outputs]})

    def _similarity(self, g: Graph, q: str) -> str:
        """(m, K) from q (m, D) and prototypes (K, D)."""
        if self.model.metric == "cosine":
            along = g.op("Gemm", self._unit(g, q), self._unit(g, "prototypes"), transB=1)
            return g.op("Mul", along, g.constant(np.float32(self.model.scale)))
        if self.model.metric == "centroid":
            q = self._unit(g, q)
            square = g.op("ReduceSum", g.op("Mul", "prototypes", "prototypes"), g.constant([1]), keepdims=0)
            twice = g.op("Mul", g.op("Gemm", q, "prototypes", transB=1), g.constant(np.float32(2)))
            return g.op("Sub", twice, square)
        away = g.op("Sub", g.op("Unsqueeze", q, g.constant([1])), g.op("Unsqueeze", "prototypes", g.constant([0])))
        return g.op("Neg", g.op("ReduceSum", g.op("Mul", away, away), g.constant([2]), keepdims=0))

    def _unit(self, g: Graph, z: str) -> str:
        """Rows of length 1; those of length 0 stay."""
        length = g.op("ReduceL2", z, axes=[1], keepdims=1)
        nothing = g.op("Equal", length, g.constant(np.float32(0)))
        return g.op("Div", z, g.op("Where", nothing, g.constant(np.float32(1)), length))
