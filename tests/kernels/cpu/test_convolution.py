"""Direct convolutions: no product with the border of zeros, and the same bits whatever shares the products."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fastmeta.networks.layers import Conv2d, Flatten, Linear, Tanh
from fastmeta.networks.network import Network
from fastmeta_kernels import cpu, reference
from fastmeta_kernels.contract import InnerLoop, TaskSet
from fastmeta_kernels.cpu.execution import call, threads
from fastmeta_kernels.cpu.layers import convolution
from fastmeta_kernels.cpu.layers.taps import inside, reached, runs
from fastmeta_kernels.cpu.layout.instruction import LAYOUTS, PRODUCT, Code
from fastmeta_kernels.cpu.layout.network import PAGE, plan
from fastmeta_kernels.cpu.layout.places import places

WINDOWS = [(3, 2, 1), (3, 1, 1), (3, 2, 0), (3, 2, 2), (5, 3, 2), (5, 2, 4), (1, 2, 0), (1, 3, 0), (3, 1, 2)]


def multiply_adds(write, layer) -> int:
    """Multiply-adds a pair of channels of the products that `write` adds to a program."""
    code = Code()
    write(code)
    products = [row for row in code.rows if row["op"] == PRODUCT]
    assert products
    assert all(row.dtype == LAYOUTS[PRODUCT] for row in products)
    done = sum(int(row["m"] * row["columns"] * row["k1"] * row["k"] * row["i"] * row["j"]) for row in products)
    return done // (layer.cp * layer.ocp)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [1, 2, 4, 7, 14])
def test_taps_inside(window, size):
    kernel, stride, padding = window
    count = (size + 2 * padding - kernel) // stride + 1
    pairs = {(i, t) for i in range(count) for t in range(kernel) if 0 <= stride * i + t - padding < size}
    by_place, by_tap = inside(count, stride, -padding, kernel, size), reached(count, stride, -padding, kernel, size)
    assert {(i, t) for i, taps in enumerate(by_place) for t in taps} == pairs
    assert {(i, t) for t, outputs in enumerate(by_tap) for i in outputs} == pairs
    for ranges in (by_place, by_tap):
        found = list(runs(ranges))
        assert [alike for _, number, alike in found for _ in range(number)] == ranges
        assert [first for first, _, _ in found] == [sum(run[1] for run in found[:i]) for i in range(len(found))]
        assert all(a[2] != b[2] for a, b in pairwise(found))


@pytest.mark.parametrize(("size", "within", "dense"), [(7, 100, 144), (14, 400, 441), (4, 25, 36)])
def test_the_border_is_not_multiplied(size, within, dense):
    """Of stride 2, forward, dx and dW of 20 samples, whose tile rows are samples; dense: with the border's taps."""
    net = Network([Conv2d(16, 1, padding=0), Conv2d(16, stride=2), Flatten()], (size, size, 16))
    layer = plan(net.table.tobytes(), 20, 4, "0").layers[1]
    at = places(layer, True, False)
    into = at.into(layer)
    backward = lambda code: convolution.backward(code, layer, at, into, True)  # noqa: E731
    without = lambda code: convolution.backward(code, layer, at, None, True)  # noqa: E731
    assert multiply_adds(lambda code: convolution.forward(code, layer, at), layer) == 20 * within
    assert multiply_adds(without, layer) == 20 * within
    assert multiply_adds(backward, layer) == 2 * 20 * within
    assert within < dense == (layer.oh * 3) ** 2


def test_images_are_not_whole_pages_apart():
    """16 x 16 pixels of 64 channels with the border: 64 KiB in float32."""
    net = Network([Conv2d(64, 1, padding=0), Conv2d(64, stride=2), Flatten()], (14, 14, 64))
    for itemsize in (4, 8):
        layer = plan(net.table.tobytes(), 3, itemsize, "0").layers[1]
        assert layer.x_r * 16 * itemsize % PAGE == 0
        assert 0 < layer.x_n * itemsize % PAGE <= 64


@pytest.mark.parametrize("samples", [1, 4, 30])
@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_is_the_reference(window, samples, monkeypatch):
    """Few samples and many, by pixels and by samples; two threads at each instruction find the same bits."""
    layers = [Conv2d(3, 1, padding=0), Tanh(), Conv2d(5, *window), Tanh(), Conv2d(4, *window), Flatten(), Linear(2)]
    net = Network(layers, (13, 14, 2))
    rng = np.random.default_rng(samples)
    theta = net.init(0, "float64") + 0.1 * rng.standard_normal(net.parameter_count)
    support, query = (
        TaskSet(rng.standard_normal((1, n, *net.input_shape)), rng.integers(0, 2, (1, n))) for n in (samples, 3)
    )
    inner = InnerLoop(1, np.full((1, 1), 0.1), (0, theta.size))
    monkeypatch.setattr(call, "WINOGRAD", "0")
    monkeypatch.setattr(threads, "SHARED_WORK", 0)
    monkeypatch.setattr(threads, "ALONE_WORK", 0)
    expected, found = reference.meta_gradient(net.table, theta, support, query, inner).gradient, []
    for count in "12":
        monkeypatch.setenv("FASTMETA_NUM_THREADS", count)
        found.append(cpu.meta_gradient(net.table, theta, support, query, inner).gradient)
    assert np.linalg.norm(found[0] - expected) <= 1e-12 * np.linalg.norm(expected)
    np.testing.assert_array_equal(found[1], found[0])
