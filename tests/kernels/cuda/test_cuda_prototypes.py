"""Pullbacks and the prototype head of the CUDA backend against the reference, on the CPU and on a GPU."""

import numpy as np
import pytest

from fastmeta.networks.architectures import MLP, Conv4
from fastmeta_kernels import reference
from fastmeta_kernels.contract import PrototypeHead, TaskSet
from tests.cases import CASES
from tests.gradcheck import relative

METRICS = ("euclidean", "cosine")
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


def _episodes(net, dtype, tasks=3, ways=3, support=7, query=5, seed=0):
    """theta (P,) and sets of support samples first, then queries; unbalanced shots."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(ways), rng.integers(0, ways, support - ways)])
    y = np.stack([np.concatenate([rng.permutation(y), rng.integers(0, ways, query)]) for _ in range(tasks)])
    x = rng.standard_normal((tasks, support + query, *net.input_shape)).astype("float32").astype(dtype)
    theta = net.init(seed) + 0.1 * rng.standard_normal(net.parameter_count)
    return theta.astype("float32").astype(dtype), TaskSet(x, y)


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_pullback_equals_the_reference(cuda, case):
    theta, batch = case.make()
    x, net = batch.x_query, case.network
    d_outputs = np.random.default_rng(3).standard_normal((*x.shape[:2], net.outputs))
    for parameters in (theta, np.stack([theta * (1 + 0.1 * t) for t in range(case.tasks)])):
        expected = reference.pullback(net.table, parameters, x, d_outputs)
        assert relative(cuda.pullback(net.table, parameters, x, d_outputs), expected) <= 1e-12


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("net", [MLP((3, 5, 17), "tanh"), Conv4((28, 28, 1), 8, None, "pool")], ids=str)
def test_prototype_gradient_equals_the_reference(cuda, net, metric, dtype):
    head = PrototypeHead(3, metric, scale=4.0)
    theta, data = _episodes(net, dtype)
    wide = TaskSet(data.x.astype("float64"), data.y)
    for parameters in (theta, np.stack([theta, theta, theta / 2])):
        expected = reference.prototype_gradient(net.table, parameters.astype("float64"), wide, 7, head)
        found = cuda.prototype_gradient(net.table, parameters, data, 7, head)
        assert {a.dtype for a in found} == {np.dtype(dtype)}
        for value, wanted in zip(found, expected, strict=True):
            assert relative(value, wanted) <= TOLERANCE[dtype]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("tasks", "ways", "width"), [(1, 1, 1), (2, 5, 63), (3, 20, 130)])
def test_prototype_loss_equals_the_reference(cuda, tasks, ways, width, metric):
    rng = np.random.default_rng(0)
    head = PrototypeHead(ways, metric)
    labels = np.stack([rng.permutation(np.arange(2 * ways) % ways) for _ in range(tasks)])
    support, query = (rng.standard_normal((tasks, n, width)) for n in (2 * ways, 7))
    y_query = rng.integers(0, ways, (tasks, 7))
    arguments = support, labels, query, y_query, head
    for value, wanted in zip(cuda.prototype_loss(*arguments), reference.prototype_loss(*arguments), strict=True):
        assert value.shape == wanted.shape
        assert relative(value, wanted) <= 1e-12


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_threads_changes_no_bit(cuda_on_cpu, cupy_on_cpu, metric):
    """More classes than a block looks at together, and more values of an embedding than it has threads."""
    rng = np.random.default_rng(0)
    support, query = (rng.standard_normal((2, n, 131)).astype("float32") for n in (40, 3))
    labels = np.stack([rng.permutation(np.arange(40) % 20) for _ in range(2)])
    arguments = support, labels, query, rng.integers(0, 20, (2, 3)), PrototypeHead(20, metric)
    results = []
    for cupy_on_cpu.order in (0, 1, 5, 6):
        results.append(cuda_on_cpu.prototype_loss(*arguments))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    wide = [a.astype("float64") if a.dtype.kind == "f" else a for a in arguments[:4]]
    for value, wanted in zip(results[0], reference.prototype_loss(*wide, arguments[4]), strict=True):
        assert relative(value, wanted) <= TOLERANCE["float32"]


def test_a_vector_of_zeros_has_cosine_0_and_no_gradient(cuda):
    support, query = np.ones((1, 2, 4)), np.zeros((1, 3, 4))
    query[0, 1] = 1e-158  # its square is no normal number
    labels = np.array([[0, 1]])
    found = cuda.prototype_loss(support, labels, query, np.zeros((1, 3), np.int64), PrototypeHead(2, "cosine"))
    assert not found.logits.any()
    assert not found.d_query.any()
    assert np.isfinite(found.d_support).all()
