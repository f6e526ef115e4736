"""Batch norm frozen at the support set on the CUDA backend: the reference's predictions."""

import numpy as np

import fastmeta as fm
from fastmeta.networks.frozen_norms import frozen
from tests.gradcheck import relative


def test_frozen_networks_agree_with_the_reference(cuda):
    net = fm.Conv4((9, 8, 1), 3, 2)
    rng = np.random.default_rng(0)
    theta, x = net.init(0, "float64"), rng.standard_normal((2, 6, 9, 8, 1))
    made = [frozen(net, theta, x, device) for device in ("numpy", "cuda")]
    assert relative(made[1][1], made[0][1]) <= 1e-12
    found = [
        affine.predict(phi, x[:, :1], device) for (affine, phi), device in zip(made, ("numpy", "cuda"), strict=True)
    ]
    assert relative(*found) <= 1e-11
