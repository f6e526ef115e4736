"""Max-pool behind batch norm, which the CPU backend does in one pass: where its windows find their largest value."""

import numpy as np
import pytest

from fastmeta.networks.layers import BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, ReLU
from fastmeta.networks.network import Network
from fastmeta_kernels import cpu, reference
from fastmeta_kernels.contract import InnerLoop, TaskSet
from tests.gradcheck import relative

SHAPE = (5, 7, 2)  # a pool of 2 drops a row and a column, one of 3 two rows and a column


def network(channels, size, relu):
    """The gradient of the second input channel's weight tells which pixel of a window was chosen."""
    layers = [Conv2d(channels, 1, padding=0), BatchNorm(), *[ReLU()] * relu, MaxPool2d(size), Flatten(), Linear(3)]
    return Network(layers, SHAPE)


def tied(dtype, channels, size, relu):
    """theta and two sets whose windows hold few different values, the largest more than once, one channel constant."""
    net, rng = network(channels, size, relu), np.random.default_rng(channels)
    theta = (net.init(0) + 0.1 * rng.standard_normal(net.parameter_count)).astype("float32")
    weight = net.views(theta)["conv1.weight"]
    weight[..., 1, :] = 0  # what is tied in the first input channel is tied in every output
    weight[..., -1] *= channels == 1
    sets = []
    for samples in (3, 4):
        x = rng.standard_normal((2, samples, *SHAPE)).astype("float32")
        x[..., 0] = np.round(x[..., 0])
        sets.append(TaskSet(x.astype(dtype), rng.integers(0, 3, (2, samples))))
    return net, theta.astype(dtype), *sets


def results(backend, net, theta, support, query):
    """Gradients, Hessian-vector products and exact meta-gradients in a direction that unties nothing."""
    v = np.random.default_rng(1).standard_normal(theta.shape).astype("float32").astype(theta.dtype)
    inner = InnerLoop(1, np.full((1, 1), 0.1, theta.dtype), (0, theta.size))
    yield "gradient", backend.gradient(net.table, theta, support)[1]
    yield "hvp", backend.hvp(net.table, theta, v, support)
    yield "first order", backend.meta_gradient(net.table, theta, support, query, inner, 1).gradient
    if theta.dtype == np.float64:
        yield "exact", backend.meta_gradient(net.table, theta, support, query, inner).gradient


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("channels", [1, 3, 63])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_the_first_of_equal_values_is_chosen(dtype, tolerance, channels, size, relu):
    arrays = tied(dtype, channels, size, relu)
    net, theta, *sets = arrays
    exact = net, theta.astype("float64"), *(TaskSet(s.x.astype("float64"), s.y) for s in sets)
    expected = dict(results(reference, *exact))
    for name, found in results(cpu, *arrays):
        assert relative(found, expected[name]) <= tolerance, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_window_swallows_a_nan(dtype):
    net = network(3, 2, True)
    theta = net.init(0, dtype)
    for place in ((0, 0), (1, 0), (0, 1), (3, 5), (4, 6)):  # the last is in no window
        x = np.random.default_rng(0).standard_normal((1, 2, *SHAPE)).astype(dtype)
        x[(0, 0, *place)] = np.nan
        data = TaskSet(x, np.zeros((1, 2), np.int64))
        assert np.isnan(cpu.predict(net.table, theta, x)).all()
        assert np.isnan(cpu.gradient(net.table, theta, data)[1][:, : net.views(theta)["conv1.weight"].size]).all()
