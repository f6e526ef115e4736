"""Pullbacks and prototype gradients of networks: central differences, reference arrays, both backends alike."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmeta.networks.architectures import MLP, Conv4
from fastmeta_kernels import reference
from fastmeta_kernels.contract import PrototypeHead, TaskSet
from tests.cases import CASES
from tests.gradcheck import derivative, relative

FILE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "proto.npz"
METRICS = ("euclidean", "cosine")
HEADS = [PrototypeHead(3, metric, scale=4.0) for metric in METRICS]


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    return importlib.import_module(f"fastmeta_kernels.{request.param}")


def _episodes(net, tasks=2, ways=3, support=7, query=5, seed=0, dtype="float64"):
    """theta (P,) and a set of support samples first, then queries; unbalanced shots."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(ways), rng.integers(0, ways, support - ways)])
    y = np.stack([np.concatenate([rng.permutation(y), rng.integers(0, ways, query)]) for _ in range(tasks)])
    x = rng.standard_normal((tasks, support + query, *net.input_shape)).astype("float32").astype(dtype)
    theta = net.init(seed) + 0.1 * rng.standard_normal(net.parameter_count)
    return theta.astype("float32").astype(dtype), TaskSet(x, y)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pullback_is_the_gradient_of_a_linear_function_of_the_outputs(backend, case):
    net = case.network
    theta, batch = case.make()
    each = np.stack([theta, 1.1 * theta, 0.9 * theta, theta, theta])[: case.tasks]
    x = batch.x_query
    d_outputs = np.random.default_rng(3).standard_normal((*x.shape[:2], net.outputs))
    for parameters in (theta, each):
        found = backend.pullback(net.table, parameters, x, d_outputs)
        assert relative(found, reference.pullback(net.table, parameters, x, d_outputs)) <= 1e-12
    if case.smooth:
        v = np.random.default_rng(4).standard_normal(theta.size)
        v /= np.linalg.norm(v)
        outputs = lambda e: (reference.predict(net.table, theta + e * v, x) * d_outputs).sum(axis=(1, 2))  # noqa: E731
        slopes = backend.pullback(net.table, theta, x, d_outputs) @ v
        assert np.abs(slopes - derivative(outputs)).max() <= 1e-7 * max(1, np.abs(slopes).max())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 3), st.integers(1, 5), st.integers(0, 99))
@pytest.mark.parametrize("metric", METRICS)
def test_prototype_gradient_is_that_of_central_differences(metric, ways, more, query, seed):
    net = MLP((4, 6, 5), "tanh")
    head = PrototypeHead(ways, metric, 3.0)
    theta, data = _episodes(net, 2, ways, ways + more, query, seed)
    v = np.random.default_rng(seed).standard_normal(theta.size)
    v /= np.linalg.norm(v)
    losses = lambda e: reference.prototype_gradient(net.table, theta + e * v, data, ways + more, head)[0]  # noqa: E731
    gradients = reference.prototype_gradient(net.table, theta, data, ways + more, head)[1]
    slopes, size = gradients @ v, np.linalg.norm(gradients, axis=1)
    allowed = 1e-7 * np.maximum(np.maximum(np.abs(slopes), size / 10), 1e-4)
    assert (np.abs(slopes - derivative(losses, 0.01)) <= allowed).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("head", HEADS, ids=METRICS)
@pytest.mark.parametrize("net", [MLP((3, 5, 17), "tanh"), Conv4((28, 28, 1), 8, None, "pool")], ids=str)
def test_the_cpu_equals_the_reference(net, head, dtype, tolerance):
    cpu = importlib.import_module("fastmeta_kernels.cpu")
    theta, data = _episodes(net, tasks=3, dtype=dtype)
    wide = TaskSet(data.x.astype("float64"), data.y)
    expected = reference.prototype_gradient(net.table, theta.astype("float64"), wide, 7, head)
    before = [a.copy() for a in (theta, data.x, data.y)]
    found = cpu.prototype_gradient(net.table, theta, data, 7, head)
    assert all(np.array_equal(a, b) for a, b in zip((theta, data.x, data.y), before, strict=True))
    assert {a.dtype for a in found} == {np.dtype(dtype)}
    for value, wanted in zip(found, expected, strict=True):
        assert relative(value, wanted) <= tolerance
    each = np.stack([theta, theta, 0.5 * theta])
    expected = reference.prototype_gradient(net.table, each.astype("float64"), wide, 7, head)
    assert relative(cpu.prototype_gradient(net.table, each, data, 7, head), expected) <= tolerance


def test_the_head_within_a_network_is_the_head_alone(backend):
    net = MLP((4, 6, 5), "tanh")
    theta, data = _episodes(net)
    z = backend.predict(net.table, theta, data.x)
    parts = [np.ascontiguousarray(a) for a in (z[:, :7], data.y[:, :7], z[:, 7:], data.y[:, 7:])]
    for head in HEADS:
        found = backend.prototype_loss(*parts, head)
        dz = np.concatenate([found.d_support, found.d_query], axis=1)
        losses, gradients = backend.prototype_gradient(net.table, theta, data, 7, head)
        assert relative(losses, found.losses) <= 1e-14
        assert relative(gradients, backend.pullback(net.table, theta, data.x, dz)) <= 1e-13


@pytest.mark.parametrize("head", HEADS, ids=METRICS)
def test_logits_are_similarities(backend, head):
    rng = np.random.default_rng(0)
    support, query = rng.standard_normal((2, 6, 5)), rng.standard_normal((2, 4, 5))
    labels = np.tile([0, 1, 2], (2, 2))
    z = backend.prototype_loss(support, labels, query, np.zeros((2, 4), int), head).logits
    c = (support[:, :3] + support[:, 3:]) / 2
    cosine = np.einsum("tmd,tkd->tmk", query, c) / np.linalg.norm(query, axis=2)[..., None]
    cosine = head.scale * cosine / np.linalg.norm(c, axis=2)[:, None]
    distance = -((query[:, :, None] - c[:, None]) ** 2).sum(axis=3)
    assert relative(z, cosine if head.metric == "cosine" else distance) <= 1e-13


@pytest.mark.skipif(not FILE.exists(), reason="shared/reference is not beside this repository")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_reference_arrays_end_to_end(backend, dtype):
    data = np.load(FILE)
    net = Conv4((28, 28, 1), 8, None, "pool")

    def flat(pattern):  # kernels OIHW -> HWIO; one pixel remains, so features need no reordering
        arrays = [data[pattern.format(i)] for i in range(12)]
        return np.concatenate([(a.transpose(2, 3, 1, 0) if a.ndim == 4 else a).ravel() for a in arrays])

    x = np.concatenate([data["net_xs"], data["net_xq"]]).transpose(0, 2, 3, 1)[None].astype(dtype)
    y = np.concatenate([data["net_ys"], data["net_yq"]])[None].astype(np.int64)
    support = len(data["net_ys"])
    head = PrototypeHead(int(y.max()) + 1)
    theta = flat("net_p{}").astype(dtype)
    losses, gradients = backend.prototype_gradient(net.table, theta, TaskSet(np.ascontiguousarray(x), y), support, head)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert relative(losses[0], data["net_loss"]) <= tolerance
    assert relative(gradients[0], flat("net_g{}")) <= tolerance
