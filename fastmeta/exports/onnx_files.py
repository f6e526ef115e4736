"""NAME_adapt.onnx and NAME_predict.onnx, and their test in onnxruntime, where it is installed."""

from __future__ import annotations

import importlib.util

import numpy as np

from fastmeta.exports.golden import Golden, samples
from fastmeta.exports.model import ExportModel
from fastmeta.exports.onnx_prototypes import PrototypeGraphs
from fastmeta.exports.onnx_steps import StepGraphs


def onnx_files(model: ExportModel, name: str, version: str) -> dict[str, bytes]:
    """Both files by their names; ModuleNotFoundError without onnx, ValueError for int8, which ONNX has no use for."""
    if importlib.util.find_spec("onnx") is None:
        raise ModuleNotFoundError('to="onnx" needs onnx to write its files: pip install "fastmeta[onnx]".')
    if model.codes is not None:
        raise ValueError('store="int8" must be "float32" for ONNX: its operators compute with float32.')
    kind = StepGraphs if model.kind == "steps" else PrototypeGraphs
    roles = zip(("adapt", "predict"), kind(model, name, version).adapt_and_predict(), strict=True)
    return {f"{name}_{role}.onnx": content for role, content in roles}


def onnx_self_test(model: ExportModel, files: dict[str, bytes], golden: Golden) -> float | None:
    """The worst difference from float64 on made-up samples, over the largest output; None without onnxruntime."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    providers = ["CPUExecutionProvider"]
    adapt, predict = (onnxruntime.InferenceSession(f, options, providers=providers) for f in files.values())
    x, queries, y = samples(model, golden.seed, len(golden.outputs))
    taught = adapt.run(None, {"x_support": x, "y_support": y})
    found = dict(zip((output.name for output in adapt.get_outputs()), taught, strict=True)) | {"x_query": queries}
    (outputs,) = predict.run(None, {given.name: found[given.name] for given in predict.get_inputs()})
    return float(np.abs(outputs - golden.outputs).max()) / golden.scale
