"""Batch norm with fixed statistics: measured by hand; fixed to those of the samples at hand, nothing changes."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.algorithms.maml_plus_plus.norm_statistics import FixedNorms, measure, norm_channels
from fastmeta.networks.layers import BatchNorm
from fastmeta_kernels.reference import network
from tests.cases import CASES
from tests.gradcheck import relative

NORMED = [case for case in CASES if any(isinstance(layer, BatchNorm) for layer in case.network.layers)]


@pytest.mark.parametrize("case", NORMED, ids=lambda case: case.name)
def test_statistics_are_those_of_each_norms_input(case):
    net = case.network
    theta, batch = case.make()
    thetas = np.tile(theta, (case.tasks, 1))
    found = measure(net, thetas, batch.x_query, "numpy")
    assert found.shape == (case.tasks, 2, sum(norm_channels(net)))
    xs = network.forward(net.table, thetas, batch.x_query)
    got = [x for x, layer in zip(xs[:-1], net.layers, strict=True) if isinstance(layer, BatchNorm)]
    parts = [x.reshape(case.tasks, -1, x.shape[-1]) for x in got]
    assert relative(found[:, 0], np.concatenate([part.mean(axis=1) for part in parts], axis=1)) <= 1e-14
    assert relative(found[:, 1], np.concatenate([part.var(axis=1) for part in parts], axis=1)) <= 1e-13


@pytest.mark.parametrize("case", NORMED, ids=lambda case: case.name)
def test_fixed_to_the_samples_own_statistics_nothing_changes(case):
    net = case.network
    theta, batch = case.make()
    fixed, x = FixedNorms(net), batch.x_query[0]
    statistics = measure(net, theta[None], x[None], "numpy")
    own = fixed.statistics(statistics)
    phi = fixed.widen(theta)
    for name, values in own.items():
        fixed.network.views(phi)[name][...] = values[0]
    expected = fm.predict(net, theta, x, device="numpy")
    assert relative(fm.predict(fixed.network, phi, x, device="numpy"), expected) <= 1e-13
    for name, new in fixed.names.items():
        np.testing.assert_array_equal(net.views(theta)[name], fixed.network.views(phi)[new])


def test_rates_of_every_shape_go_to_their_arrays():
    net = fm.Network([fm.Affine(), fm.Linear(3), fm.BatchNorm(), fm.Linear(2)], 4)
    fixed, rng = FixedNorms(net), np.random.default_rng(0)
    assert fixed.widen(0.1) == 0.1
    assert fixed.widen(np.ones((5, 1))).shape == (5, 1)
    names, count = list(fixed.network.parameter_shapes), fixed.network.parameter_count
    arrays = rng.uniform(size=(5, len(net.parameter_shapes)))
    wide = fixed.widen(arrays)
    assert wide.shape == (5, len(names))
    for i, name in enumerate(net.parameter_shapes):
        np.testing.assert_array_equal(wide[:, names.index(fixed.names[name])], arrays[:, i])
    parameters = rng.uniform(size=net.parameter_count)
    wide = fixed.widen(parameters)
    assert wide.shape == (count,)
    for name, part in net.views(parameters).items():
        np.testing.assert_array_equal(fixed.network.views(wide)[fixed.names[name]], part)
