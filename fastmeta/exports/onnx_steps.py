"""A learner of inner steps in ONNX: one Loop, whose body is a step with its backward pass in stock operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta.exports.c_source import running_rows
from fastmeta.exports.model import ExportModel
from fastmeta.exports.onnx_graph import Graph
from fastmeta.exports.onnx_graphs import OnnxGraphs
from fastmeta.exports.onnx_layers import Tensors, backward, forward, steps


class StepGraphs(OnnxGraphs):
    """Inputs x_support, y_support, inner_steps and, where it is one number, inner_lr; outputs phi.* of what moves."""

    def __init__(self, model: ExportModel, name: str, version: str) -> None:
        super().__init__(model, name, version)
        self.moved = _moved(model, self.arrays)
        stepwise = {n for names in self.norms.values() for n in names} if model.step_norms is not None else set()
        self.carried = [n for n in self.moved if n not in stepwise]  # from inner step to inner step
        self.first = next(i for i, _, names in steps(self.net) if set(names) & set(self.moved))

    def adapt_and_predict(self) -> tuple[bytes, bytes]:
        """Both graphs."""
        model, g = self.model, Graph()
        for name, values in self.arrays.items():
            g.constant(values, name)
        still = {name: name for name in self.arrays if name not in self.moved}
        x = self.nchw(g, "x_support")
        affine: Tensors = {}
        if self.first:
            x, _, affine = forward(g, self.net, still, x, 0, self.first)
        phi = {name: f"phi.{name}" for name in self.moved}
        carried = [phi[name] for name in self.carried]
        g.ops("Loop", "inner_steps", "", *self.carried, out=carried, body=self._body(g, x, still))
        self._rows(g, phi, "inner_steps")
        if self.held and model.running is not None:
            affine = self._running_affine(g, phi, "inner_steps")
        elif self.held:
            affine |= forward(g, self.net, still | phi, x, self.first, self.layers)[2]
        given = {"x_support": self.samples("n"), "y_support": self.targets("n")}
        g.constant(np.int64(model.steps), "inner_steps")
        inputs = [*self.infos(given), self.info("inner_steps", [], 7)]
        if self._one_rate:
            inputs.append(self.info("inner_lr", []))
        results = {phi[name]: self.arrays[name].shape for name in self.moved if phi[name] != name}
        results |= self.outputs(g, affine)
        adapt = self.finished(g, inputs, results)
        p = Graph()
        held = {f"{name}.{part}": f"phi.{name}.{part}" for name in self.norms for part in ("slope", "offset")}
        tensors = {n: p.constant(v, n) for n, v in self.arrays.items() if n not in self.moved} | phi
        out, _, _ = forward(p, self.net, tensors | held, self.nchw(p, "x_query"), 0, self.layers, held=self.held)
        p.op("Identity", out, out="outputs")
        taken = [self.info(name, list(shape)) for name, shape in results.items()]
        used = {name for node in p.nodes for name in node.input}
        taken = [info for info in taken if info.name in used]
        predict = self.finished(
            p, [*taken, *self.infos({"x_query": self.samples("m")})], {"outputs": ["m", model.outputs]}
        )
        return adapt, predict

    @property
    def _one_rate(self) -> bool:
        return self.model.rates is not None and self.model.rates.size == 1

    def _body(self, g: Graph, x: str, still: Tensors) -> Any:
        """The graph of one inner step. It sees the support set and the rates of the graph around it."""
        from onnx import TensorProto, helper

        model, b = self.model, Graph(g)
        tensors = still | {name: f"in.{name}" for name in self.carried}
        own: Tensors = dict(tensors)
        self._rows(b, own, "step")
        if model.running is not None:
            own |= self._running(b, "step")
        y = "y_support"
        if model.batches is not None:
            rows = b.op("Gather", g.constant(np.int64(model.batches)), "step", axis=0)
            x, y = b.op("Gather", x, rows, axis=0), b.op("Gather", y, rows, axis=0)
        given = model.running is not None
        out, made, _ = forward(b, self.net, own, x, self.first, self.layers, given=given)
        slopes = backward(b, made, own, _loss_slope(b, model, out, y), given)
        rates = self._rates(g, b)
        for name in self.carried:
            before = f"in.{name}"
            slope = slopes[name]
            if model.pull:
                away = b.op("Mul", b.constant(np.float32(model.pull)), b.op("Sub", before, name))
                slope = b.op("Add", slope, away)
            b.op("Sub", before, b.op("Mul", rates[name], slope), out=f"out.{name}")
        b.op("Identity", "go", out="go_on")
        infos = [self.info(f"in.{name}", list(self.arrays[name].shape)) for name in self.carried]
        results = [self.info(f"out.{name}", list(self.arrays[name].shape)) for name in self.carried]
        step, go, go_on = (
            helper.make_tensor_value_info(name, kind, [])
            for name, kind in (("step", TensorProto.INT64), ("go", TensorProto.BOOL), ("go_on", TensorProto.BOOL))
        )
        return helper.make_graph(b.nodes, "inner_step", [step, go, *infos], [go_on, *results], b.constants)

    def _rates(self, g: Graph, b: Graph) -> Tensors:
        """The rate of each array in this step: a number or an array of its shape."""
        rates = self.model.rates
        assert rates is not None
        if self._one_rate:
            g.constant(np.float32(rates[0, 0]), "inner_lr")
            return dict.fromkeys(self.moved, "inner_lr")
        edges = np.cumsum([0, *(values.size for values in self.arrays.values())])
        found = {}
        for i, (name, values) in enumerate(self.arrays.items()):
            if name not in self.moved:
                continue
            own = rates[:, :1] if rates.shape[1] == 1 else rates[:, i : i + 1]
            if rates.shape[1] == self.net.parameter_count:
                own = rates[:, edges[i] : edges[i + 1]].reshape(-1, *self.net.parameter_shapes[name])
                own = own.transpose(0, 4, 3, 1, 2) if values.ndim == 4 else own
            found[name] = b.op("Gather", g.constant(own), _row(b, len(rates), "step"), axis=0)
        return found

    def _rows(self, g: Graph, tensors: Tensors, step: str) -> None:
        """Scales and shifts of batch norm that are this step's own."""
        if self.model.step_norms is None:
            return
        at = 0
        for names in self.norms.values():
            for name in names:
                own = self.model.step_norms[:, at : at + self.arrays[name].size]
                row = g.op("Gather", g.constant(own), _row(g, len(own), step), axis=0)
                tensors[name] = row if step == "step" else g.op("Identity", row, out=f"own.{name}")
                at += self.arrays[name].size

    def _running(self, g: Graph, step: str) -> Tensors:
        """Mean and 1 / deviation of each batch norm in this step."""
        table, found, at = running_rows(self.model), {}, 0
        for name, names in self.norms.items():
            for part in ("mean", "r"):
                own = table[:, at : at + self.arrays[names[0]].size]
                found[f"{name}.{part}"] = g.op("Gather", g.constant(own), _row(g, len(own), step), axis=0)
                at += own.shape[1]
        return found

    def _running_affine(self, g: Graph, phi: Tensors, step: str) -> Tensors:
        found, rows = {}, self._running(g, step)
        for name, (scale, shift) in self.norms.items():
            slope = g.op("Mul", phi[scale], rows[f"{name}.r"])
            found[f"{name}.slope"] = slope
            found[f"{name}.offset"] = g.op("Sub", phi[shift], g.op("Mul", slope, rows[f"{name}.mean"]))
        return found


def _row(g: Graph, rows: int, step: str) -> str:
    """min(step, rows - 1)."""
    last = g.constant(np.int64(rows - 1))
    return g.op("Where", g.op("Less", step, last), step, last)


def _loss_slope(g: Graph, model: ExportModel, out: str, y: str) -> str:
    """The gradient of the support loss by the outputs."""
    if model.classifies:
        one_hot = g.op("OneHot", y, g.constant(np.int64(model.outputs)), g.constant(np.array([0.0, 1.0])), axis=-1)
        first = g.op("Slice", g.op("Shape", out), g.constant([0]), g.constant([1]))
        return g.op("Div", g.op("Sub", g.op("Softmax", out, axis=-1), one_hot), g.op("Cast", first, to=1))
    twice = g.op("Mul", g.op("Sub", out, y), g.constant(np.float32(2)))
    return g.op("Div", twice, g.op("Cast", g.op("Size", out), to=1))


def _moved(model: ExportModel, arrays: dict[str, Any]) -> list[str]:
    """Names of the arrays that the inner steps move, or that differ from step to step."""
    start, stop = model.adapted
    found, at = [], 0
    for name, values in arrays.items():
        found += [name] if start <= at < stop else []
        at += values.size
    return found
