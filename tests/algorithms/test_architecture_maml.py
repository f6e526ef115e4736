"""ArchitectureMAML: mixtures of operations are what they say, their gradients are exact, and it finds what is known."""

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.algorithms.architecture.discrete import multiply_adds
from fastmeta.algorithms.architecture.mixture import Mixture
from fastmeta.algorithms.architecture.operations import OPERATIONS
from tests.algorithms.learners import Fixed, meta_gradient_errors
from tests.gradcheck import derivative, relative

NET = fm.Network(
    [
        fm.Conv2d(3, kernel=5, stride=2, padding=2),
        fm.BatchNorm(),
        fm.Softplus(),
        fm.Conv2d(3, kernel=5, padding=2, bias=False),
        fm.BatchNorm(),
        fm.Softplus(),
        fm.GlobalMeanPool(),
        fm.Linear(4),
        fm.Tanh(),
        fm.Linear(2),
    ],
    (8, 8, 1),
)
ALL = "conv1,conv3,conv5,dilated3,depthwise3,mean3,identity,none"


def _batch(tasks=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, tasks, 4, 8, 8, 1))
    y = np.tile([0, 1], (2, tasks, 2))
    return fm.Batch(x[0], y[0], x[1], y[1])


def _learner(**options):
    settings = {"inner_lr": 0.2, "inner_steps": 2, "operations": ALL, "device": "numpy"} | options
    learner = fm.ArchitectureMAML(NET, **settings).fit(Fixed(_batch()), 0, theta=NET.init(1, "float64"))
    rng = np.random.default_rng(3)
    parameters = learner.parameters
    moved = parameters["architecture"] + rng.standard_normal(parameters["architecture"].shape)
    learner._training = learner.training._replace(parameters=parameters | {"architecture": moved})
    return learner


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("prices", [{}, {"width_penalty": 0.05}, {"cost_penalty": 0.3}], ids=str)
def test_gradients_are_exact(steps, prices):
    errors = meta_gradient_errors(_learner(inner_steps=steps, **prices), _batch())
    assert errors.keys() == {"theta", "kernels", "architecture"}
    assert max(errors.values()) <= 1e-7, errors


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_each_number_of_the_architecture_and_each_gate_has_its_exact_slope(steps):
    learner, batch = _learner(inner_steps=steps, width_penalty=0.05, cost_penalty=0.3), _batch()
    parameters, slopes = learner.parameters, learner.meta_gradients(batch)[1]
    sizes = [v.size for v in NET.views(parameters["theta"]).values()]
    places = {"architecture": range(15), "theta": np.flatnonzero(np.repeat(learner._gated, sizes))}
    assert [len(places["theta"]), parameters["architecture"].size] == [6, 15]
    for name, numbers in places.items():
        for i in numbers:

            def loss(e, name=name, i=i):
                moved = parameters[name] + e * np.eye(1, parameters[name].size, i)[0]
                learner._training = learner.training._replace(parameters=parameters | {name: moved})
                return learner.meta_gradients(batch)[0]

            error = abs(derivative(loss, 4e-3) - slopes[name][i]) / np.abs(slopes[name][places[name]]).max()
            assert error <= 1e-7, (name, i)


def test_a_mixture_is_the_sum_of_its_operations():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 9, 9, 3))
    layer = fm.Network([fm.Conv2d(3, kernel=5, padding=2, bias=False), fm.Flatten()], (9, 9, 3))
    mixture = Mixture(layer, tuple(ALL.split(",")))
    weights, architecture = mixture.first(layer.init(0, "float64"))
    architecture += rng.standard_normal(architecture.shape)
    theta = mixture.theta(np.zeros(layer.parameter_count), weights, architecture)
    (p,) = mixture.probabilities(architecture).values()
    assert list(p) == ALL.split(",")
    expected, start = np.zeros((2, 9, 9, 3)), 0
    for name, share in p.items():
        operation = OPERATIONS[name]
        shape = operation.shape((5, 5, 3, 3))
        w = weights[start : start + int(np.prod(shape))].reshape(shape)
        start += w.size
        expected += share * _by_hand(name, w, x)
    assert start == weights.size
    assert relative(layer.predict(theta, x, device="numpy").reshape(x.shape), expected) <= 1e-13


def _by_hand(name, w, x):
    """An operation, pixel by pixel."""
    if name in ("identity", "none"):
        return x if name == "identity" else np.zeros_like(x)
    apart = 2 if name == "dilated3" else 1
    taps = 3 if name == "mean3" else w.shape[0]
    reach = taps // 2 * apart
    wide = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    out = np.zeros_like(x)
    for i in range(taps):
        for j in range(taps):
            part = wide[:, i * apart : i * apart + 9, j * apart : j * apart + 9]
            if name == "mean3":
                out += part / 9
            else:
                out += part * w[i, j] if name == "depthwise3" else part @ w[i, j]
    return out


class Textures:
    """Two classes of random textures of the same pixels: alike along rows or along columns. One tap cannot tell."""

    def sample(self, tasks, seed, step=0):
        rng = np.random.default_rng([seed, step])
        noise = rng.standard_normal((2, tasks, 8, 9, 9, 1))
        rows, columns = noise + np.roll(noise, 1, axis=-2), noise + np.roll(noise, 1, axis=-3)
        y = np.tile([0, 1], (2, tasks, 4))
        flip = rng.integers(0, 2, (tasks, 1))
        x = np.where((np.arange(8) % 2 == 0)[:, None, None, None], rows, columns)
        return fm.Batch(x[0], (y[0] + flip) % 2, x[1], (y[1] + flip) % 2)


def test_finds_the_operation_that_can_tell_textures_apart():
    net = fm.Network([fm.Conv2d(8), fm.ReLU(), fm.GlobalMeanPool(), fm.Linear(2)], (9, 9, 1))
    search = fm.ArchitectureMAML(net, 0.2, 3, operations="conv1,conv3", architecture_lr=0.05, device="numpy")
    search.fit(Textures(), 150, tasks_per_step=4, optimizer=fm.Adam(1e-2))
    (p,) = search.architecture.values()
    assert p["conv3"] > 0.85
    assert search.discretised().layers[0] == fm.Conv2d(8)
    assert search.evaluate(Textures(), episodes=50).mean > 0.8


def test_discretised_takes_the_likeliest_and_the_widest():
    learner = _learner(operations="conv1,conv3,identity", width_penalty=0.01)
    parameters = {name: values.copy() for name, values in learner.parameters.items()}
    parameters["architecture"][...] = [0, 1, 5, 1, 2]  # conv1, conv3; conv1, conv3, identity
    NET.views(parameters["theta"])["norm1.scale"][...] = [0.1, 2, -3]
    NET.views(parameters["theta"])["norm2.scale"][...] = [0.1, 0.2, 3]
    learner._training = learner.training._replace(parameters=parameters)
    assert [p["conv1"] < 0.5 for p in learner.architecture.values()] == [True, False]
    narrow = learner.discretised(keep=0.5)
    convolutions = [layer for layer in narrow.layers if isinstance(layer, fm.Conv2d)]
    assert [layer.channels for layer in convolutions] == [2, 1]
    assert [layer.kernel for layer in convolutions] == [3, 1]
    assert learner.discretised().layers[0].channels == 3


def test_identity_of_stride_one_leaves_no_layer():
    learner = _learner(operations="conv3,identity", inner_steps=1)
    parameters = dict(learner.parameters) | {"architecture": np.array([1.0, 2.0])}
    learner._training = learner.training._replace(parameters=parameters)
    assert len(learner.discretised().layers) == len(NET.layers) - 1


def test_multiply_adds_are_those_of_a_hand_count():
    assert multiply_adds(fm.Conv4((28, 28, 1), channels=64)) == 9 * 64 * (14 * 14 + 64 * (49 + 16 + 4)) + 320
    assert multiply_adds(fm.MLP((3, 5, 2))) == 25


@pytest.mark.parametrize("seed", range(4))
def test_expected_multiply_adds_are_those_of_the_network_that_won(seed):
    search = _learner(operations="conv1,conv3,conv5,identity")
    a, u = np.random.default_rng(seed).standard_normal((2, 7))  # three operations fit the first layer, four the second
    search._training = search.training._replace(parameters=search.parameters | {"architecture": 1e3 * a})
    assert search.mixture.multiply_adds(1e3 * a)[0] == multiply_adds(search.discretised())
    expected, slopes = search.mixture.multiply_adds(a)
    assert expected < multiply_adds(NET)
    along = derivative(lambda e: search.mixture.multiply_adds(a + e * u)[0])
    assert slopes @ u == pytest.approx(along, rel=1e-9)


def test_what_takes_multiply_adds_pays_their_price():
    shares = []
    for price in (0.0, 10.0):
        search = fm.ArchitectureMAML(NET, 0.2, operations="conv3,conv5", cost_penalty=price, device="numpy")
        shares.append([p["conv5"] for p in search.fit(Fixed(_batch()), 60).architecture.values()])
    assert all(dear < 0.4 and dear < free for free, dear in zip(*shares, strict=True)), shares


def test_gates_do_not_move_in_inner_steps():
    learner, batch = _learner(width_penalty=0.1), _batch()
    phi = learner.adapt(batch.x_support[0], batch.y_support[0]).theta
    before, after = NET.views(learner.theta), NET.views(phi)
    for name in before:
        assert np.array_equal(before[name], after[name]) == name.endswith("scale"), name
    assert relative(_learner().adapt(batch.x_support[0], batch.y_support[0]).theta, phi) > 1e-6


def test_bad_settings_say_what_to_do():
    for options, message in (
        ({"operations": "conv2"}, "operations"),
        ({"operations": "conv3,conv3"}, 'operations="conv3,conv3" must name each operation once'),
        ({"operations": "conv7,identity"}, "operations=.* must fit"),
        ({"architecture_lr": 0}, "architecture_lr"),
        ({"width_penalty": -1}, "width_penalty"),
        ({"cost_penalty": -1}, "cost_penalty"),
    ):
        with pytest.raises(ValueError, match=message):
            fm.ArchitectureMAML(NET, **options)
    learner = _learner(operations="depthwise3,mean3")
    with pytest.raises(ValueError, match="no layer computes it"):
        learner.discretised()
    with pytest.raises(ValueError, match="keep=2 must be at most 1"):
        learner.discretised(keep=2)
