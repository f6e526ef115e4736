"""ONNX graphs that adapt: the learner's float64 outputs, for any number of samples, queries and steps."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings

import fastmeta as fm
from fastmeta.exports.golden import golden
from fastmeta.exports.model import export_model
from fastmeta.exports.onnx_files import onnx_files, onnx_self_test
from tests.exports.models import LABELS, MODELS, NUMPY, images, trained
from tests.exports.test_c import layers

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
WHOLE = [name for name in MODELS if "int8" not in name]
STOCK = {"", "ai.onnx"}
SEEDS = {"pooled": 5}  # 3 puts a value between two of a window's after 20 steps


@pytest.fixture(scope="module")
def graphs():
    """graphs(name) -> what runs both graphs of a model: (x, y, queries, inner_steps, inner_lr) -> outputs."""
    made: dict[str, tuple] = {}

    def sessions(name: str) -> tuple:
        if name not in made:
            model = export_model(trained(name), **MODELS[name][1])
            made[name] = tuple(onnxruntime.InferenceSession(file) for file in onnx_files(model, name, "0").values())
        return made[name]

    def of(name: str):
        adapt, predict = sessions(name)

        def run(x, y, queries, **given):
            taught = adapt.run(None, {"x_support": x, "y_support": y} | given)
            named = dict(zip((output.name for output in adapt.get_outputs()), taught, strict=True))
            wanted = [entry.name for entry in predict.get_inputs() if entry.name != "x_query"]
            return predict.run(None, {name: named[name] for name in wanted} | {"x_query": queries})[0]

        return run

    return of


def task(name: str, n: int, m: int):
    """n support samples with targets, and m queries."""
    learner, rng = trained(name), np.random.default_rng(SEEDS.get(name, 3))
    shape = learner.net.input_shape
    x, queries = (rng.uniform(-1, 1, (count, *shape)).astype(np.float32) for count in (n, m))
    y = rng.uniform(-1, 1, (n, 1)).astype(np.float32) if name == "sine" else np.arange(n) % 3
    return x, y, queries


def wide(learner):
    """The learner in float64, by the reference."""
    import copy

    other = copy.copy(learner)
    other.device = "numpy"
    parameters = {key: values.astype(np.float64) for key, values in learner.parameters.items()}
    other._training = learner.training._replace(parameters=parameters)
    return other


def distance(found, expected) -> float:
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.mark.filterwarnings("ignore:Batch norm is transductive")
@pytest.mark.parametrize("name", WHOLE)
def test_adapted_outputs_are_the_learners(graphs, name):
    run, learner = graphs(name), wide(trained(name))
    steps = "ways" not in MODELS[name][1]
    norm = {"batch_norm": MODELS[name][1].get("batch_norm", "frozen")} if learner.batch_norm == "transductive" else {}
    for n, m in ((9, 4),) if name.startswith("reptile") else ((6, 4), (9, 7)):
        x, y, queries = task(name, n, m)
        for count in (0, 1, 5, 20) if steps else (None,):
            given = {} if count is None else {"inner_steps": np.array(count, np.int64)}
            asked = {} if count is None else {"inner_steps": count}
            model = learner.adapt(
                x.astype(np.float64), y if y.dtype.kind == "i" else y.astype(np.float64), **asked, **norm
            )
            expected = model.outputs(queries.astype(np.float64))
            assert distance(run(x, y, queries, **given), expected) <= 1e-5, (n, m, count)


def test_the_rate_is_an_input_where_it_is_one_number(graphs):
    x, y, queries = task("sine", 8, 3)
    other = fm.MAML(trained("sine").net, 0.03, 5, **NUMPY)
    other._training = trained("sine").training
    found = graphs("sine")(x, y, queries, inner_lr=np.array(0.03, np.float32))
    assert distance(found, wide(other).adapt(x, y).outputs(queries)) <= 1e-5
    assert distance(graphs("sine")(x, y, queries), found) > 1e-3


@pytest.mark.parametrize("name", WHOLE)
def test_stock_operators_of_the_opset(name):
    for content in onnx_files(export_model(trained(name), **MODELS[name][1]), name, "0").values():
        made = onnx.load_from_string(content)
        assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", 17)]
        assert made.ir_version == 8
        assert {node.domain for node in made.graph.node} <= STOCK


@settings(max_examples=20, deadline=None, derandomize=True)
@given(layers())
def test_networks_of_any_layers(made):
    try:
        net = fm.Network(made, (6, 5, 2))
    except ValueError:
        return
    learner = fm.MAML(net, 0.05, 2, **NUMPY)
    theta = (net.init(0) + 0.1 * np.random.default_rng(1).standard_normal(net.parameter_count)).astype(np.float32)
    model = export_model(learner.fit(images(12, 3), 0, theta=theta), 4, loss=fm.CrossEntropy())
    error = onnx_self_test(model, onnx_files(model, "drawn", "0"), golden(model))
    assert error is not None
    assert error <= 2e-5


def test_the_files(tmp_path):
    report = fm.export(trained("smooth"), tmp_path, to="onnx", name="net", samples=6, **LABELS)
    assert [path.name for path in report.files] == ["net_adapt.onnx", "net_predict.onnx", "net.json"]
    assert 0 <= report.error <= 1e-5
    assert json.loads((tmp_path / "net.json").read_text())["to"] == "onnx"
    assert "RAM" not in str(report)


def test_what_it_refuses(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='store="int8" must be "float32" for ONNX'):
        fm.export(trained("smooth"), tmp_path, to="onnx", samples=6, store="int8", **LABELS)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"fastmeta\[onnx\]"):
        fm.export(trained("smooth"), tmp_path, to="onnx", samples=6, **LABELS)
    assert list(tmp_path.iterdir()) == []
