"""Convolutions of stride 2 by phases: against the reference, error beside direct products, threads, the rule."""

from __future__ import annotations

import numpy as np
import pytest

from fastmeta.networks.architectures import Conv4
from fastmeta.networks.layers import BatchNorm, Conv2d, Flatten, GlobalMeanPool, Linear, ReLU, Softplus, Tanh
from fastmeta.networks.network import Network
from fastmeta_kernels import cpu, reference
from fastmeta_kernels.contract import InnerLoop, TaskSet
from fastmeta_kernels.cpu.execution import call
from fastmeta_kernels.cpu.layout.layer import WINOGRAD
from fastmeta_kernels.cpu.layout.network import plan
from fastmeta_kernels.cpu.layout.winograd import PHASE_PART, SCHEMES, VALUES, takes_phases
from tests.kernels.cpu.test_winograd import over_threads, relative, results

NETWORKS = {
    "both_sides": Network(
        [Conv2d(5, 1, padding=0), Tanh(), Conv2d(7, stride=2), Tanh(), Conv2d(3, stride=2), Flatten(), Linear(3)],
        (14, 14, 2)),
    "two_sides": Network(
        [Conv2d(17, 1, padding=0), BatchNorm(), Softplus(), Conv2d(33, stride=2, bias=False), BatchNorm(), Softplus(),
         GlobalMeanPool(), Linear(3)], (14, 7, 2)),
    "first_behind_norm": Network([BatchNorm(), Conv2d(33, stride=2), Tanh(), Flatten(), Linear(2)], (7, 14, 2)),
    "beside_tiles": Network(
        [Conv2d(6), ReLU(), Conv2d(6, stride=2), ReLU(), Conv2d(5), ReLU(), Conv2d(4, stride=2), ReLU(), Flatten(),
         Linear(2)], (14, 14, 1)),
    "conv4": Conv4((28, 28, 1), 16, 5, "stride"),
}  # fmt: skip
PHASES = {"both_sides": 2, "two_sides": 1, "first_behind_norm": 1, "beside_tiles": 2, "conv4": 2}
SMOOTH = ("both_sides", "two_sides", "first_behind_norm")


def phases(net: Network, samples: int, itemsize: int = 8, chosen: str = "1") -> int:
    layers = plan(net.table.tobytes(), samples, itemsize, chosen).layers
    return sum(layer.kind == WINOGRAD and layer.stride == 2 for layer in layers)


def test_a_side_has_fewer_values_than_taps_inside():
    """8 of 10, 16 of 20, even pixels among them."""
    assert VALUES.tolist() == [8, 16]
    assert SCHEMES[:, -1].tolist() == [4, 7]


@pytest.mark.parametrize("samples", [1, 6, 33])
@pytest.mark.parametrize("name", NETWORKS)
def test_phases_are_the_reference_in_float64(name, samples, monkeypatch):
    """33 samples: blocks with a smaller last one, and two partial sums."""
    net = NETWORKS[name]
    monkeypatch.setattr(call, "WINOGRAD", "1")
    assert phases(net, samples) == PHASES[name]
    exact = results(reference, net, "float64", samples)
    for what, ours in results(cpu, net, "float64", samples).items():
        assert relative(ours, exact[what]) <= 1e-11, what


@pytest.mark.parametrize("samples", [1, 30])
@pytest.mark.parametrize("name", SMOOTH)
def test_error_in_float32_is_that_of_the_direct_products(name, samples, monkeypatch):
    """Within one and a half times, and a rounding."""
    net = NETWORKS[name]
    exact = results(reference, net, "float64", samples)
    errors = {}
    for chosen in "01":
        monkeypatch.setattr(call, "WINOGRAD", chosen)
        found = results(cpu, net, "float32", samples)
        errors[chosen] = {what: relative(ours, exact[what]) for what, ours in found.items()}
    for what, error in errors["1"].items():
        assert error <= 1.5 * errors["0"][what] + 1e-7, what


@pytest.mark.parametrize("side", [7, 14])
def test_error_of_one_layer_of_64_channels(side, monkeypatch):
    """3e-7 of the outputs and of the weight's gradient, in the Euclidean norm."""
    net = Network([Conv2d(64, 1, padding=0), Conv2d(64, stride=2), Flatten()], (side, side, 1))
    rng = np.random.default_rng(0)
    theta = net.init(0, "float32")
    x = rng.standard_normal((1, 30, side, side, 1)).astype(np.float32)
    d = rng.standard_normal((1, 30, net.outputs)).astype(np.float32)
    wide = [array.astype(np.float64) for array in (theta, x, d)]
    assert phases(net, 30, 4, "auto") == 1
    monkeypatch.setattr(call, "WINOGRAD", "auto")
    assert relative(cpu.predict(net.table, theta, x), reference.predict(net.table, *wide[:2])) <= 3e-7
    assert relative(cpu.pullback(net.table, theta, x, d), reference.pullback(net.table, *wide)) <= 4e-7


@pytest.mark.parametrize("images", [7, 70])
def test_the_same_bits_for_any_number_of_threads(images, tmp_path):
    """One task whose instructions threads share: images, channels of one partial sum, and partial sums.

    In two calls, each the reference's values: through batch norm direct products are 5e-6 off.
    """
    layers = [Conv2d(32, 1, padding=0), Softplus(), Conv2d(48, stride=2), BatchNorm(), Tanh(), Conv2d(32, stride=2)]
    net = Network([*layers, Flatten(), Linear(3)], (14, 14, 1))
    found, exact = over_threads(net, images, tmp_path)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    assert relative(found[0], exact) <= 1e-5


@pytest.mark.parametrize("function", ["gradient", "hvp"])
def test_partial_sums_start_from_nothing(function, monkeypatch):
    """Two parts of some blocks each: the second call finds what the first, and a NaN between, left in the workspace."""
    monkeypatch.setattr(call, "WINOGRAD", "1")
    net = NETWORKS["both_sides"]
    rng = np.random.default_rng(0)
    theta, samples = net.init(0, "float64"), 2 * PHASE_PART + 1
    v = [rng.standard_normal(theta.shape)] if function == "hvp" else []
    x, y = rng.standard_normal((1, samples, *net.input_shape)), rng.integers(0, 2, (1, samples))
    wild = np.full_like(x, np.nan)
    first, broken, second = (
        getattr(cpu, function)(net.table, theta, *v, TaskSet(images, y))[-1] for images in (x, wild, x)
    )
    exact = getattr(reference, function)(net.table, theta, *v, TaskSet(x, y))[-1]
    assert np.isnan(broken).any()
    assert relative(first, exact) <= 1e-11
    np.testing.assert_array_equal(second, first)


def test_phases_of_the_query_set_alone():
    """By the rule 30 query images of 7 x 7 go by phases and five support images do not."""
    net = Network(
        [Conv2d(64, 1, padding=0), Softplus(), Conv2d(64, stride=2), Softplus(), GlobalMeanPool(), Linear(2)], (7, 7, 1)
    )
    assert [phases(net, samples, 4, "auto") for samples in (5, 30)] == [0, 1]
    rng = np.random.default_rng(0)
    x, x_query = (rng.standard_normal((2, n, 7, 7, 1)).astype(np.float32) for n in (5, 30))
    y, y_query = (rng.integers(0, 2, (2, n)) for n in (5, 30))
    theta, found = net.init(0), []
    for backend, dtype in ((cpu, "float32"), (reference, "float64")):
        support, query = TaskSet(x.astype(dtype), y), TaskSet(x_query.astype(dtype), y_query)
        inner = InnerLoop(2, np.full((1, 1), 0.1, dtype), (0, theta.size))
        found.append(backend.meta_gradient(net.table, theta.astype(dtype), support, query, inner))
    assert relative(found[0].gradient, found[1].gradient) <= 5e-6


def test_the_rule():
    taps, pair = (3, 2, 1), (64, 64)
    assert takes_phases("auto", taps, (14, 14), 7, pair, 4)
    assert takes_phases("auto", taps, (7, 7), 28, (32, 64), 4)
    assert takes_phases("auto", taps, (7, 14), 14, pair, 4)
    assert not takes_phases("auto", taps, (14, 14), 6, pair, 4)
    assert not takes_phases("auto", taps, (7, 7), 27, pair, 4)
    assert not takes_phases("auto", taps, (14, 14), 7, pair, 8)  # float64 is exact
    assert not takes_phases("auto", taps, (14, 14), 7, (16, 64), 4)
    for size in (4, 8):
        assert takes_phases("1", taps, (7, 14), 1, (1, 1), size)
        assert not takes_phases("0", taps, (14, 14), 5, pair, size)
        assert not takes_phases("1", taps, (14, 13), 5, pair, size)
        for other in ((5, 2, 2), (3, 1, 1), (3, 3, 1), (3, 2, 0)):
            assert not takes_phases("1", other, (14, 14), 5, pair, size)
