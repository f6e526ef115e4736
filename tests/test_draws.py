"""A search by draws among networks of one cost: slopes are those of the expected loss, and it finds what is known."""

import itertools

import numpy as np
import pytest

import fastmeta as fm
from benchmarks.draws import Draws, likeliest, searched
from tests.algorithms.test_architecture_maml import Textures
from tests.gradcheck import derivative

KERNELS, WIDTHS = (1, 3), {1: 8, 3: 4}


def build(kernels):
    layers = []
    for kernel in kernels:
        layers += [fm.Conv2d(WIDTHS[kernel], kernel, padding=kernel // 2), fm.BatchNorm(), fm.Softplus()]
    return fm.Network([*layers, fm.GlobalMeanPool(), fm.Linear(2)], (9, 9, 1))


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_slopes_over_all_pairs_of_draws_are_those_of_the_expected_loss(steps):
    draws, batch, rng = Draws(build, KERNELS, 2), Textures().sample(2, seed=0), np.random.default_rng(0)
    theta = draws.first(0) + 0.1 * rng.standard_normal(draws.first(0).size)
    a = rng.standard_normal((2, 2))

    def share(choice, a):
        return np.prod([row[KERNELS.index(kernel)] for row, kernel in zip(draws.probabilities(a), choice, strict=True)])

    def expected_loss(theta, a):
        losses = {
            choice: fm.meta_gradient(net, theta[draws.places[choice]], batch, 0.4, steps).loss
            for choice, net in draws.nets.items()
        }
        return sum(share(choice, a) * loss for choice, loss in losses.items())

    d_theta, d_a = np.zeros_like(theta), np.zeros_like(a)
    for pair in itertools.product(draws.nets, repeat=2):
        found = draws.slopes(theta, a, pair, batch, steps)
        weight = share(pair[0], a) * share(pair[1], a)
        d_theta, d_a = d_theta + weight * found[0], d_a + weight * found[1]
    u, v = rng.standard_normal(theta.shape), rng.standard_normal(a.shape)
    u /= np.linalg.norm(u)
    along_theta = derivative(lambda e: expected_loss(theta + e * u, a), 4e-3)
    along_a = derivative(lambda e: expected_loss(theta, a + e * v), 4e-3)
    assert d_theta @ u == pytest.approx(along_theta, rel=1e-7)
    assert (d_a * v).sum() == pytest.approx(along_a, rel=1e-7)


def test_a_network_takes_the_middle_taps_and_the_first_channels():
    draws = Draws(build, KERNELS, 2)
    theta = np.arange(draws.first(0).size)
    assert all(len(set(at)) == draws.nets[choice].parameter_count for choice, at in draws.places.items())
    wide, narrow = (draws.nets[c].views(theta[draws.places[c]]) for c in ((3, 3), (1, 1)))
    np.testing.assert_array_equal(wide["conv1.weight"][1, 1], narrow["conv1.weight"][0, 0, :, :4])
    np.testing.assert_array_equal(wide["conv2.weight"][1, 1], narrow["conv2.weight"][0, 0, :4, :4])
    np.testing.assert_array_equal(wide["norm2.scale"], narrow["norm2.scale"][:4])
    np.testing.assert_array_equal(wide["linear1.weight"], narrow["linear1.weight"][:4])


def test_finds_the_kernels_that_tell_textures_apart():
    draws = Draws(build, KERNELS, 1)
    p = searched(draws, Textures(), 120, seed=0, steps=1)
    assert likeliest(draws, p, 1) == [(3,)]
    assert p[0, 1] > 0.8
