"""Networks as descriptions: shapes, names and places of parameters, first values, what does not fit."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.networks.initial import INITIALIZATIONS
from fastmeta.networks.network import Network

IMAGES = Network(
    [fm.Conv2d(4, 5, 2, 2), fm.BatchNorm(), fm.MaxPool2d(2), fm.Conv2d(3, bias=False), fm.Flatten(), fm.Linear(2)],
    (9, 7, 3),
)


def test_shapes_names_and_places_of_parameters():
    assert IMAGES.shapes == ((9, 7, 3), (5, 4, 4), (5, 4, 4), (2, 2, 4), (2, 2, 3), (12,), (2,))
    assert IMAGES.parameter_shapes == {
        "conv1.weight": (5, 5, 3, 4),
        "conv1.bias": (4,),
        "norm1.scale": (4,),
        "norm1.shift": (4,),
        "conv2.weight": (3, 3, 4, 3),
        "linear1.weight": (12, 2),
        "linear1.bias": (2,),
    }
    assert IMAGES.parameter_count == 300 + 4 + 4 + 4 + 108 + 24 + 2
    assert IMAGES.head == (420, 446)
    theta = np.arange(446.0)
    views = IMAGES.views(theta)
    assert np.array_equal(np.concatenate([view.ravel() for view in views.values()]), theta)
    views["norm1.shift"][1] = -1
    assert theta[309] == -1
    assert IMAGES.views(np.zeros((2, 3, 446)))["conv2.weight"].shape == (2, 3, 3, 3, 4, 3)
    with pytest.raises(ValueError, match=r"theta has shape \(445,\) but .* has 446 parameters"):
        IMAGES.views(theta[1:])


@pytest.mark.parametrize("downsample", ["stride", "pool"])
def test_the_papers_networks(downsample):
    """Finn et al. 2017, section 5: 28 x 28 pixels go to 2 x 2 by strides, and their mean; to 1 x 1 by pools."""
    net = fm.Conv4((28, 28, 1), 64, 5, downsample)
    assert net.parameter_count == 9 * 64 + 3 * 9 * 64 * 64 + 8 * 64 + 64 * 5 + 5
    kinds = [type(layer).__name__ for layer in net.layers]
    block = ["Conv2d", "BatchNorm", "ReLU", *(["MaxPool2d"] if downsample == "pool" else [])]
    assert kinds == [*block * 4, "Flatten" if downsample == "pool" else "GlobalMeanPool", "Linear"]
    assert net.shapes[-3] == ((1, 1, 64) if downsample == "pool" else (2, 2, 64))
    assert fm.Conv4((84, 84, 3), 32, None, downsample).outputs == (800 if downsample == "pool" else 32)
    mlp = fm.MLP((1, 40, 30, 2), "tanh")
    assert [type(layer).__name__ for layer in mlp.layers] == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    assert mlp.parameter_count == 80 + 41 * 30 + 31 * 2


@pytest.mark.parametrize(
    ("scheme", "variance", "limit"),
    [
        ("glorot_uniform", 2 / (90 + 180), np.sqrt(6 / 270)),
        ("glorot_normal", 2 / (90 + 180), None),
        ("he_uniform", 2 / 90, np.sqrt(6 / 90)),
        ("he_normal", 2 / 90, None),
        ("lecun_normal", 1 / 90, None),
        ("truncated_normal", 0.7737e-4, 0.02),  # of a normal cut at two deviations
    ],
)
def test_first_weights_have_the_moments_of_their_scheme(scheme, variance, limit):
    """10 and 20 channels of 3 x 3 taps, so that fans are 90 and 180; and a linear layer of the same fans."""
    for net, name in (
        (Network([fm.Conv2d(20), fm.Flatten()], (4, 4, 10)), "conv1"),
        (Network([fm.Linear(180)], (90,)), "linear1"),
    ):
        views = [net.views(net.init(seed, "float64", scheme)) for seed in range(10)]
        weights = np.concatenate([view[f"{name}.weight"].ravel() for view in views])
        assert abs(weights.mean()) <= 5 * np.sqrt(variance / weights.size)
        assert weights.var() == pytest.approx(variance, rel=6 * np.sqrt(2 / weights.size))
        if limit is not None:
            assert 0.98 * limit <= np.abs(weights).max() <= limit
        assert not any(view[f"{name}.bias"].any() for view in views)


def test_a_network_that_starts_at_the_identity_gives_what_it_is_given():
    x = np.random.default_rng(0).normal(size=(3, 5, 4, 2)).astype("float32")
    net = Network([fm.Conv2d(2), fm.Flatten(), fm.Linear(6), fm.Tanh()], (5, 4, 2), scheme="identity")
    np.testing.assert_array_equal(net.predict(net.init(seed=5), x, "numpy"), np.tanh(x.reshape(3, 40)[:, :6]))
    assert Network.from_dict(net.to_dict()).scheme == "identity"
    assert (net.init(scheme="he_normal") != net.init()).any()
    old = {name: value for name, value in net.to_dict().items() if name != "scheme"}
    assert Network.from_dict(old).scheme == "glorot_uniform"
    assert str(fm.MLP((4, 4), scheme="identity")) == 'MLP(sizes=(4, 4), scheme="identity")'
    with pytest.raises(ValueError, match=r'scheme="identiy" must be one of .* Did you mean "identity"\?'):
        fm.MLP((4, 4), scheme="identiy")


def test_first_parameters_depend_on_the_seed_and_not_on_the_dtype():
    assert {scheme for scheme in INITIALIZATIONS if IMAGES.init(0, scheme=scheme).any()} == set(INITIALIZATIONS)
    theta = IMAGES.init(3, "float64")
    assert np.array_equal(IMAGES.init(3), theta.astype("float32"))
    assert (IMAGES.init(4, "float64") != theta).any()
    views = IMAGES.views(theta)
    assert (views["norm1.scale"] == 1).all()
    assert not views["norm1.shift"].any()
    assert not views["conv1.bias"].any()


@pytest.mark.parametrize("net", [IMAGES, fm.MLP((1, 3, 1), "softplus"), fm.Conv4(downsample="pool")], ids=str)
def test_a_description_survives_json(net):
    again = Network.from_dict(json.loads(json.dumps(net.to_dict())))
    assert again == net
    assert str(again) == str(net)
    assert np.array_equal(again.table, net.table)


BAD = {
    "must be (features,) or (height, width, channels).": lambda: Network([fm.Linear(1)], (2, 3)),
    "input_shape=0 must be at least 1.": lambda: Network([fm.Linear(1)], (0,)),
    "layers must be fastmeta layers such as Linear(40); got 3.": lambda: Network([3], (2,)),
    "ends with (2, 2, 1) a sample. Add Flatten() or GlobalMeanPool()": lambda: Network([fm.Conv2d(1)], (2, 2, 1)),
    "has no parameters. Add a Linear or Conv2d layer.": lambda: Network([fm.Tanh()], (2,)),
    "Linear takes vectors but gets images of 2 x 3 x 1. Put": lambda: Network([fm.Linear(1)], (2, 3, 1)),
    "Conv2d takes images (H, W, C) but gets vectors of 2.": lambda: Network([fm.Conv2d(1)], (2,)),
    "kernel=5 and padding=1 does not fit on images of 2 x 9 x 1.": lambda: Network([fm.Conv2d(1, 5)], (2, 9, 1)),
    "MaxPool2d(3) does not fit on images of 9 x 2 x 1.": lambda: Network([fm.MaxPool2d(3)], (9, 2, 1)),
    "kernel=4 must be odd.": lambda: fm.Conv2d(1, 4),
    "padding=3 must be smaller than kernel=3.": lambda: fm.Conv2d(1, 3, 1, 3),
    "stride=0 must be at least 1.": lambda: fm.Conv2d(1, 3, 0),
    "outputs=0 must be at least 1.": lambda: fm.Linear(0),
    'scheme="he" must be one of "glorot_uniform"': lambda: IMAGES.init(scheme="he"),
    'dtype="float16" must be one of "float32", "float64".': lambda: IMAGES.init(dtype="float16"),
    "sizes=(3,) must name at least inputs and outputs": lambda: fm.MLP((3,)),
    'activation="rel" must be one of "relu"': lambda: fm.MLP((3, 1), "rel"),
    'downsample="pools" must be one of "stride", "pool". Did you mean "pool"?': lambda: fm.Conv4(downsample="pools"),
    "image=(28, 28) must be (height, width, channels)": lambda: fm.Conv4((28, 28)),
}


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_is_named(message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        BAD[message]()
