"""Convolutions by Winograd's tiles: against the reference on every edge, their error in float32, threads, the rule."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
from fastmeta_kernels.cpu.layout.winograd import takes_tiles

ROOT = Path(__file__).resolve().parents[3]
NETWORKS = {
    "tails": Network([Conv2d(3), Tanh(), Conv2d(5), Tanh(), Flatten(), Linear(3)], (5, 6, 2)),
    "paddings": Network(
        [Conv2d(16), BatchNorm(), Softplus(), Conv2d(17, padding=0), BatchNorm(), Softplus(), Conv2d(4, padding=2),
         Tanh(), Conv2d(33), GlobalMeanPool(), Linear(2)], (9, 11, 3)),
    "first_behind_norm": Network([BatchNorm(), Conv2d(33), Tanh(), Conv2d(8), Flatten(), Linear(2)], (1, 3, 2)),
    "one_pixel": Network([Conv2d(4, stride=3), Softplus(), Conv2d(4), Tanh(), Flatten(), Linear(2)], (2, 2, 1)),
    "beside_stride_2": Network([Conv2d(6), ReLU(), Conv2d(6, bias=False), ReLU(), Conv2d(5, stride=2), ReLU(),
         Conv2d(6), Flatten(), Linear(2)], (13, 10, 1)),
    "conv4": Conv4((28, 20, 1), 16, 5, "pool"),
}  # fmt: skip
SMOOTH = ("tails", "paddings", "first_behind_norm", "one_pixel")


def relative(ours: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(ours.astype(np.float64) - exact) / np.linalg.norm(exact))


def results(backend, net: Network, dtype: str, samples: int) -> dict[str, np.ndarray]:
    """Everything the contract computes, of two tasks, from numbers that float32 represents."""
    rng = np.random.default_rng(samples)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32).astype(dtype)  # noqa: E731
    theta = net.init(0).astype(dtype) + 0.1 * draw(net.parameter_count)
    theta, v = theta.astype(np.float32).astype(dtype), draw(theta.size)
    support, query = (
        TaskSet(draw(2, n, *net.input_shape), rng.integers(0, net.outputs, (2, n))) for n in (samples, samples + 2)
    )
    inner = InnerLoop(2, np.full((1, 1), 0.1, dtype), (0, theta.size))
    return {
        "outputs": backend.predict(net.table, theta, support.x),
        "gradient": backend.gradient(net.table, theta, query)[1],
        "hvp": backend.hvp(net.table, theta, v, support),
        "meta_gradient": backend.meta_gradient(net.table, theta, support, query, inner).gradient,
        "recomputed": backend.meta_gradient(net.table, theta, support, query, inner, memory="recompute").gradient,
        "first_order": backend.meta_gradient(net.table, theta, support, query, inner, order=1).gradient,
    }


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_are_the_reference_in_float64(name, samples, monkeypatch):
    net = NETWORKS[name]
    monkeypatch.setattr(call, "WINOGRAD", "1")
    layers = plan(net.table.tobytes(), samples, 8, "1").layers
    assert WINOGRAD in [layer.kind for layer in layers]
    exact = results(reference, net, "float64", samples)
    for what, ours in results(cpu, net, "float64", samples).items():
        assert relative(ours, exact[what]) <= 1e-11, what


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("name", SMOOTH)
def test_error_in_float32(name, samples, monkeypatch):
    """At most 5e-6 where no kink flips, and never ten times that of the direct products."""
    net = NETWORKS[name]
    exact = results(reference, net, "float64", samples)
    errors = {}
    for chosen in "01":
        monkeypatch.setattr(call, "WINOGRAD", chosen)
        found = results(cpu, net, "float32", samples)
        errors[chosen] = {what: relative(ours, exact[what]) for what, ours in found.items()}
    for what, error in errors["1"].items():
        assert error <= 5e-6, what
        assert error <= 10 * errors["0"][what] + 1e-6, what


def test_error_of_one_layer_of_64_channels(monkeypatch):
    """1e-6 of the outputs and of the weight's gradient, in the Euclidean norm."""
    monkeypatch.setattr(call, "WINOGRAD", "1")
    net = Network([Conv2d(64), Conv2d(64), Flatten()], (14, 14, 1))
    rng = np.random.default_rng(0)
    theta = net.init(0, "float32")
    x = rng.standard_normal((1, 5, 14, 14, 1)).astype(np.float32)
    d = rng.standard_normal((1, 5, net.outputs)).astype(np.float32)
    wide = [array.astype(np.float64) for array in (theta, x, d)]
    assert relative(cpu.predict(net.table, theta, x), reference.predict(net.table, *wide[:2])) <= 1e-6
    assert relative(cpu.pullback(net.table, theta, x, d), reference.pullback(net.table, *wide)) <= 1e-6


def over_threads(net: Network, images: int, folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Meta-gradients of one task, two calls each with 1, 2 and 3 threads; and the reference's in float64."""
    rng, shape = np.random.default_rng(0), (1, images, *net.input_shape)
    x, y = rng.random(shape, np.float32), rng.integers(0, net.outputs, (1, images))
    np.savez(folder / "sets.npz", theta=net.init(), x=x, y=y)
    program = (
        "import sys, numpy as np; from fastmeta_kernels import cpu; from fastmeta_kernels.contract import *;"
        "given = np.load('sets.npz'); theta, x, y = (given[name] for name in ('theta', 'x', 'y'));"
        f"table = np.array({net.table.tolist()}); inner = InnerLoop(1, np.full((1, 1), 0.1, 'f4'), (0, theta.size));"
        "sets = TaskSet(x, y), TaskSet(np.ascontiguousarray(x[:, ::-1]), y);"
        "calls = [cpu.meta_gradient(table, theta, *sets, inner).gradient for _ in range(2)];"
        "np.save(f'{sys.argv[1]}.npy', calls)"
    )
    found = []
    for threads in "123":
        environment = {"FASTMETA_NUM_THREADS": threads, "NUMBA_NUM_THREADS": "3", "FASTMETA_WINOGRAD": "1"}
        together = os.environ | {"PYTHONPATH": str(ROOT / "kernels")} | environment
        subprocess.run([sys.executable, "-c", program, threads], env=together, cwd=folder, check=True)
        found += list(np.load(folder / f"{threads}.npy"))
    wide = x.astype(np.float64)
    inner = InnerLoop(1, np.full((1, 1), 0.1), (0, net.parameter_count))
    sets = TaskSet(wide, y), TaskSet(wide[:, ::-1], y)
    exact = reference.meta_gradient(net.table, net.init().astype(np.float64), *sets, inner)
    return found, exact.gradient


@pytest.mark.parametrize("images", [7, 70])
def test_the_same_bits_for_any_number_of_threads(images, tmp_path):
    """One task whose instructions threads share: few tiles are dealt by channels, many by partial sums too.

    In two calls, each the reference's values.
    """
    layers = [Conv2d(48), BatchNorm(), Softplus(), Conv2d(48), BatchNorm(), Tanh(), Flatten(), Linear(3)]
    net = Network(layers, (18, 17, 1))
    found, exact = over_threads(net, images, tmp_path)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    assert relative(found[0], exact) <= 5e-6


def test_nan_and_what_a_workspace_held_before(monkeypatch):
    monkeypatch.setattr(call, "WINOGRAD", "1")
    net = NETWORKS["beside_stride_2"]
    theta, rng = net.init(0, "float64"), np.random.default_rng(0)
    x, y = rng.random((2, 3, *net.input_shape)), np.zeros((2, 3), np.int64)
    wild = x.copy()
    wild[:, 1, 4, 4] = np.nan
    fresh = cpu.gradient(net.table, theta, TaskSet(x, y))
    assert np.isnan(cpu.gradient(net.table, theta, TaskSet(wild, y))[0]).all()
    for before, after in zip(fresh, cpu.gradient(net.table, theta, TaskSet(x, y)), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("function", ["gradient", "hvp"])
def test_partial_sums_of_many_tiles_start_from_nothing(function, monkeypatch):
    """1,024 tiles are summed in two parts: the second call finds what the first left in the workspace."""
    monkeypatch.setattr(call, "WINOGRAD", "1")
    net = Network([Conv2d(4), Tanh(), Conv2d(4), Flatten(), Linear(2)], (8, 8, 1))
    rng = np.random.default_rng(0)
    theta = net.init(0, "float64")
    v = [rng.standard_normal(theta.shape)] if function == "hvp" else []
    data = TaskSet(rng.standard_normal((1, 256, 8, 8, 1)), rng.integers(0, 2, (1, 256)))
    first, second, exact = (getattr(b, function)(net.table, theta, *v, data)[-1] for b in (cpu, cpu, reference))
    assert relative(first, exact) <= 1e-11
    assert relative(second, exact) <= 1e-11


def test_tiles_of_the_support_set_alone():
    """By the rule 40 support images take tiles and one query image does not: what tiles need is there all the same."""
    net = Network([Conv2d(16), Softplus(), Conv2d(16), Softplus(), GlobalMeanPool(), Linear(2)], (8, 8, 1))
    assert takes_tiles("auto", (3, 1, 1), (8, 8), 40, (16, 16), 4)
    assert not takes_tiles("auto", (3, 1, 1), (8, 8), 1, (16, 16), 4)
    rng = np.random.default_rng(0)
    x, x_query = (rng.standard_normal((2, n, 8, 8, 1)).astype(np.float32) for n in (40, 1))
    y, y_query = (rng.integers(0, 2, (2, n)) for n in (40, 1))
    theta, found = net.init(0), []
    for backend, dtype in ((cpu, "float32"), (reference, "float64")):
        support, query = TaskSet(x.astype(dtype), y), TaskSet(x_query.astype(dtype), y_query)
        inner = InnerLoop(2, np.full((1, 1), 0.1, dtype), (0, theta.size))
        found.append(backend.meta_gradient(net.table, theta.astype(dtype), support, query, inner))
    assert relative(found[0].gradient, found[1].gradient) <= 1e-5
    assert relative(found[0].support_losses, found[1].support_losses) <= 1e-5


def test_the_rule():
    taps, pair = (3, 1, 1), (64, 64)
    assert takes_tiles("auto", taps, (14, 14), 5, pair, 4)
    assert not takes_tiles("auto", taps, (14, 14), 5, pair, 8)  # float64 is exact
    assert not takes_tiles("auto", taps, (14, 14), 5, (8, 64), 4)
    assert not takes_tiles("auto", taps, (5, 5), 300, pair, 4)  # four tiles for 25 pixels
    assert not takes_tiles("auto", taps, (7, 7), 1, pair, 4)
    for size in (4, 8):
        assert takes_tiles("1", taps, (1, 1), 1, (1, 1), size)
        assert not takes_tiles("0", taps, (14, 14), 5, pair, size)
        for other in ((5, 1, 2), (3, 2, 1), (1, 1, 0), (3, 1, 3)):
            assert not takes_tiles("1", other, (14, 14), 5, pair, size)


def test_the_choice_says_what_it_takes():
    command = [sys.executable, "-c", "import fastmeta_kernels.cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "kernels"), "FASTMETA_WINOGRAD": "yes"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert 'FASTMETA_WINOGRAD="yes" must be 0, 1 or auto.' in done.stderr
