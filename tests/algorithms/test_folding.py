"""Batch norm folded into the layer before: the same outputs as batch norm with these statistics."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.algorithms.transfer.folding import folded, norm_sizes, population_statistics

NETWORKS = {
    "conv4": fm.Conv4((12, 12, 2), channels=3, outputs=None),
    "with bias": fm.Network([fm.Conv2d(4), fm.BatchNorm(), fm.Tanh(), fm.GlobalMeanPool()], (5, 6, 2)),
    "vectors": fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Tanh(), fm.Linear(3), fm.BatchNorm()], 4),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_with_the_statistics_of_a_batch_it_is_transductive_batch_norm(name, device):
    net = NETWORKS[name]
    rng = np.random.default_rng(0)
    theta = net.init(1, "float64") + 0.1 * rng.normal(size=net.parameter_count)
    x = rng.normal(size=(1, 9, *net.input_shape))
    means, variances = population_statistics(net, theta, [x[:, :5], x[:, 5:]], device)
    assert len(means) == len(variances) == sum(norm_sizes(net))
    other, phi = folded(net, theta, means, variances)
    assert not any(isinstance(layer, fm.BatchNorm) for layer in other.layers)
    expected = fm.predict(net, theta, x, device=device)
    np.testing.assert_allclose(fm.predict(other, phi, x, device=device), expected, atol=1e-12)
    alone = fm.predict(other, phi, x[:, :1], device=device)
    np.testing.assert_allclose(alone, expected[:, :1], atol=1e-12)


def test_batch_norm_elsewhere_cannot_be_folded():
    net = fm.Network([fm.Linear(4), fm.ReLU(), fm.BatchNorm(), fm.Linear(2)], 3)
    with pytest.raises(ValueError, match="inductive=True must have each BatchNorm right behind a Conv2d or Linear"):
        norm_sizes(net)
