"""What both kinds of ONNX export share: the arrays of a model, the inputs and outputs of its graphs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastmeta.exports.model import ExportModel
from fastmeta.exports.onnx_graph import Graph
from fastmeta.exports.onnx_layers import Tensors, steps
from fastmeta.networks.layers import BatchNorm

OPSET, IR = 17, 8


class OnnxGraphs:
    """Two graphs of a model. Arrays have NumPy's names and, but for convolutions (O, I, k, k), its shapes."""

    def __init__(self, model: ExportModel, name: str, version: str) -> None:
        self.model, self.name, self.version = model, name, version
        self.net = model.net
        self.image = len(self.net.input_shape) == 3
        self.layers = len(self.net.layers)
        views = self.net.views(model.theta)
        self.arrays = {n: v.transpose(3, 2, 0, 1) if v.ndim == 4 else v for n, v in views.items()}
        self.norms = {names[0].split(".")[0]: names for _, n, names in steps(self.net) if isinstance(n, BatchNorm)}
        self.held = bool(self.norms) and model.batch_norm != "transductive"

    def adapt_and_predict(self) -> tuple[bytes, bytes]:
        """NAME_adapt.onnx, from the support set to what a task taught, and NAME_predict.onnx, from there to outputs."""
        raise NotImplementedError

    def outputs(self, g: Graph, affine: Tensors) -> dict[str, Any]:
        """Slopes and shifts of the batch norms, named as outputs."""
        for name, tensor in affine.items():
            g.op("Identity", tensor, out=f"phi.{name}")
        return {f"phi.{name}": [self.arrays[self.norms[name.split(".")[0]][0]].size] for name in affine}

    def nchw(self, g: Graph, x: str) -> str:
        """x as the convolutions take it."""
        return g.op("Transpose", x, perm=[0, 3, 1, 2]) if self.image else x

    def samples(self, count: str) -> tuple[list[Any], int]:
        """Shape and kind of samples."""
        return [count, *self.net.input_shape], 1

    def targets(self, count: str) -> tuple[list[Any], int]:
        """Shape and kind of labels or targets."""
        return ([count], 7) if self.model.classifies else ([count, self.model.outputs], 1)

    def infos(self, given: dict[str, tuple[list[Any], int]]) -> list[Any]:
        """Inputs by their names."""
        return [self.info(name, shape, kind) for name, (shape, kind) in given.items()]

    def info(self, name: str, shape: list[Any], kind: int = 1) -> Any:
        """An input or output."""
        from onnx import helper

        return helper.make_tensor_value_info(name, kind, shape)

    def finished(self, g: Graph, inputs: Iterable[Any], outputs: dict[str, Any]) -> bytes:
        """The bytes of a checked model."""
        import onnx
        from onnx import helper

        results = [self.info(name, list(shape)) for name, shape in outputs.items()]
        graph = helper.make_graph(g.nodes, self.name, list(inputs), results, g.constants)
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR,
            producer_name="fastmeta",
            producer_version=self.version,
        )
        made.doc_string = f"{self.model.learner}; SHA-256 {self.model.hash}"
        onnx.checker.check_model(made, full_check=True)
        content: bytes = made.SerializeToString()
        return content
