"""The functional layer: central differences over drawn networks, Taylor identities, shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmeta as fm
from fastmeta import device as devices
from fastmeta.networks.architectures import MLP
from fastmeta.networks.layers import (
    Affine,
    Append,
    BatchNorm,
    Conv2d,
    Flatten,
    GlobalMeanPool,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Softplus,
    Tanh,
)
from fastmeta.networks.network import Network
from tests.cases import CASES, Case
from tests.gradcheck import gradient_errors, relative, slope_errors

EVERYDAY = settings(max_examples=15, deadline=None, derandomize=True, database=None)
SMOOTH = (Tanh(), Softplus())
KINKED = (ReLU(), Tanh(), Softplus())


@pytest.fixture(params=["numpy", "cpu"], scope="module")
def device(request):
    return request.param


@st.composite
def networks(draw, smooth=True):
    """A vector or image network of one to three layers with parameters, of every kind of layer."""
    activations = st.sampled_from(SMOOTH if smooth else KINKED)
    width = st.integers(1, 5)
    layers = []
    if draw(st.booleans()):
        shape = (draw(st.integers(1, 4)),)
    else:
        shape = (draw(st.integers(4, 7)), draw(st.integers(4, 7)), draw(st.integers(1, 3)))
        for _ in range(draw(st.integers(0, 2))):
            kernel = draw(st.sampled_from([1, 3, 5]))
            padding = draw(st.integers(kernel // 2, min(2, kernel - 1)) if kernel > 1 else st.just(0))
            stride = draw(st.integers(1, 3))
            layers.append(Conv2d(draw(width), kernel, stride, padding, draw(st.booleans())))
            layers += draw(st.sampled_from([[], [BatchNorm()], [LayerNorm()], [Affine()]]))
            layers.append(draw(activations))
        if not smooth and min(Network([*layers, Flatten(), Linear(1)], shape).shapes[len(layers)][:2]) > 1:
            layers += draw(st.sampled_from([[], [MaxPool2d(2)], [MaxPool2d(2), ReLU()]]))
        layers.append(draw(st.sampled_from([Flatten(), GlobalMeanPool()])))
    for _ in range(draw(st.integers(0, 2))):
        norm = draw(st.sampled_from([[], [BatchNorm()], [LayerNorm()], [Affine()], [Append(2)]]))
        layers += [Linear(draw(width)), *norm, draw(activations)]
    return Network([*layers, Linear(draw(st.integers(1, 3)))], shape)


@st.composite
def cases(draw, smooth=True):
    """A drawn network with its tasks, and the arguments of a meta-gradient."""
    net = draw(networks(smooth))
    loss = draw(st.sampled_from(["squared_error", "cross_entropy"]))
    case = Case("drawn", net, loss, draw(st.integers(1, 3)), draw(st.integers(3, 6)), draw(st.integers(3, 6)))
    steps = draw(st.integers(0, 3))
    sizes = [(1,), (len(net.parameter_shapes),), (net.parameter_count,)]
    sizes += [(steps, *size) for size in sizes] if steps else []
    shape = draw(st.sampled_from([(), *sizes]))
    seed = draw(st.integers(0, 99))
    rates = np.random.default_rng(seed).uniform(0.01, 0.1, shape)
    adapt, weighted = draw(st.sampled_from(["all", "head"])), draw(st.booleans())
    return case, seed, weighted, rates, steps, adapt


@pytest.mark.parametrize("order", [1, 2])
@EVERYDAY
@given(drawn=cases())
def test_meta_gradient_of_smooth_networks(device, order, drawn):
    case, seed, weighted, rates, steps, adapt = drawn
    theta, batch = case.make(seed=seed, weighted=weighted)
    report = fm.check_meta_gradient(case.network, theta, batch, rates, steps, order, adapt, device)
    assert report.kinks == 0
    assert report.worst.error <= 1e-7
    assert all(block.directions for block in report.blocks)


@EVERYDAY
@given(drawn=cases(), data=st.data())
def test_meta_gradient_with_loss_weights_and_step_parameters(device, drawn, data):
    """Of theta, the rates and every step's own parameters, with the query loss summed over steps."""
    case, seed, weighted, rates, steps, adapt = drawn
    theta, batch = case.make(seed=seed, weighted=weighted)
    net, rng = case.network, np.random.default_rng(seed)
    names = data.draw(st.sets(st.sampled_from(list(net.parameter_shapes))))
    loss_weights = data.draw(st.sampled_from([None, rng.uniform(size=steps + 1), np.eye(steps + 1)[0]]))
    parameters = {"theta": theta, "rates": np.atleast_1d(rates)}  # a number may not become negative, an array may
    for name, view in net.views(theta).items():
        if name in names:
            parameters[name] = view + 0.3 * rng.standard_normal((steps + 1, *view.shape))

    def result(moved, order=2):
        own = {name: moved[name] for name in names}
        options = {"loss_weights": loss_weights, "step_parameters": own, "device": device}
        return fm.meta_gradient(net, moved["theta"], batch, moved["rates"], steps, order, adapt, **options)

    whole = result(parameters)
    slopes = {"theta": whole.gradient, "rates": whole.inner_lr_gradient, **whole.step_gradients}
    assert max(slope_errors(lambda moved: result(moved).loss, parameters, slopes, seed).values()) <= 1e-7
    assert not any(view.any() for name, view in net.views(whole.gradient).items() if name in names)


def test_step_parameters_are_those_of_their_step(device):
    """Two inner steps by hand: the scale and shift of step k are put in place before it. First-order gradients."""
    net = Network([Linear(4), BatchNorm(), Tanh(), Linear(2)], 3)
    case = Case("norms", net, support=6)
    theta, batch = case.make()
    names, rng = ("norm1.scale", "norm1.shift"), np.random.default_rng(0)
    own = {name: rng.standard_normal((3, 4)) for name in names}

    def put(phi, k):
        for name in names:
            net.views(phi)[name][...] = own[name][k]
        return phi

    phi, gradients = put(np.tile(theta, (case.tasks, 1)), 0), []
    for k in range(3):
        gradients.append(fm.gradient(net, phi, batch.x_query, batch.y_query, device=device)[1].mean(axis=0))
        if k < 2:
            slope = fm.gradient(net, phi, batch.x_support, batch.y_support, device=device)[1]
            phi = put(phi - 0.1 * slope, k + 1)
    adapted = fm.adapt(net, theta, batch.x_support, batch.y_support, 0.1, 2, step_parameters=own, device=device)
    assert relative(adapted, phi) <= 1e-14
    weights = [0.0, 0.3, 0.7]
    options = {"loss_weights": weights, "step_parameters": own, "device": device}
    result = fm.meta_gradient(net, theta, batch, 0.1, 2, order=1, **options)
    for name in names:
        expected = [w * net.views(g)[name] for w, g in zip(weights, gradients, strict=True)]
        assert relative(result.step_gradients[name], expected) <= 1e-13
    total = sum(w * g for w, g in zip(weights, gradients, strict=True))
    for name in names:
        net.views(total)[name][...] = 0.0
    assert relative(result.gradient, total) <= 1e-13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_weights": [1.0]}, r"loss_weights=\[1.0\] must be inner_steps \+ 1=3 numbers of at least 0, not all 0"),
        ({"loss_weights": [0, 0, 0]}, "not all 0"),
        ({"loss_weights": [-1, 0, 2]}, "at least 0"),
        ({"loss_weights": [0, np.nan, 2]}, "loss_weights must be finite"),
        ({"step_parameters": {"linear1.wieght": 0}}, r'Did you mean "linear1\.weight"\?'),
        (
            {"step_parameters": {"linear1.bias": np.ones((2, 5))}},
            r'\["linear1\.bias"\] of shape \(2, 5\) must be \(3, 5\)',
        ),
    ],
)
def test_bad_loss_weights_and_step_parameters(options, message):
    case = next(c for c in CASES if c.name == "mlp_odd_tanh")
    theta, batch = case.make()
    with pytest.raises(ValueError, match=message):
        fm.meta_gradient(case.network, theta, batch, 0.1, 2, device="numpy", **options)


@EVERYDAY
@given(drawn=cases(smooth=False))
def test_meta_gradient_of_networks_with_kinks(device, drawn):
    case, seed, weighted, rates, steps, adapt = drawn
    theta, batch = case.make(seed=seed, weighted=weighted)
    report = fm.check_meta_gradient(case.network, theta, batch, rates, steps, 2, adapt, device, tolerance=1e-6)
    tried = sum(block.directions + block.skipped for block in report.blocks)
    skipped = sum(block.skipped for block in report.blocks)
    assert skipped <= 0.1 * tried, report


@pytest.mark.parametrize("smooth", [True, False])
@EVERYDAY
@given(data=st.data())
def test_gradient_and_hessian_vector_product(device, smooth, data):
    case, seed, weighted, *_ = data.draw(cases(smooth))
    theta, batch = case.make(seed=seed, weighted=weighted)
    arguments = batch.x_query, batch.y_query, batch.query_weights
    errors = gradient_errors(case.network, theta, *arguments, device=device, seed=seed)
    assert max(errors, default=0.0) <= (1e-7 if smooth else 1e-6)
    assert errors or not smooth


def test_kinks_are_counted_and_wrong_gradients_named(monkeypatch):
    case = next(c for c in CASES if c.name == "mlp_63_relu")
    theta, batch = case.make()
    report = fm.check_meta_gradient(case.network, theta, batch, 0.1, 2, device="numpy")
    assert report.kinks > 0
    assert "linear2.weight" in str(report)
    backend = devices.backend("numpy")
    right = backend.meta_gradient

    def wrong(*arguments):
        result = right(*arguments)
        result.gradient[-3] *= 1.001
        return result

    monkeypatch.setattr(backend, "meta_gradient", wrong)
    with pytest.raises(AssertionError, match=r"disagrees with central differences in linear2\.bias"):
        fm.check_meta_gradient(case.network, theta, batch, 0.1, 2, device="numpy")


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("order", [1, 2])
def test_taylor_coefficients(device, order, steps):
    """arXiv 1803.02999, section 5: g = AvgGrad - c a AvgGradInner + O(a^2), c = 2 (k - 1) MAML, k - 1 FOMAML.

    With one batch for all k gradients AvgGrad is g1 and AvgGradInner H g1; the paper's k counts the query's.
    """
    case = Case("taylor", MLP((2, 6, 3), "tanh"), tasks=2)
    theta, batch = case.make()
    batch = type(batch)(batch.x_support, batch.y_support, batch.x_support, batch.y_support)
    net, x, y = case.network, batch.x_support, batch.y_support
    _, g1 = fm.gradient(net, theta, x, y, device=device)
    curvature = fm.hvp(net, theta, g1, x, y, device=device).mean(axis=0)

    def direction(a):
        return fm.meta_gradient(net, theta, batch, np.array([a]), steps, order, device=device).gradient

    a = 2e-3
    first = (8 * (direction(a) - direction(-a)) - (direction(2 * a) - direction(-2 * a))) / (12 * a)
    basis = np.stack([g1.mean(axis=0), curvature], axis=1)
    zeroth = np.linalg.lstsq(basis, direction(1e-12), rcond=None)[0]
    linear = np.linalg.lstsq(basis, first, rcond=None)[0]
    assert np.allclose(zeroth, [1, 0], atol=1e-8)
    assert np.allclose(linear, [0, -order * steps], atol=1e-7)


@pytest.mark.parametrize("order", [1, 2])
def test_one_data_set_gives_one_result(device, order):
    case = next(c for c in CASES if c.name == "mlp_odd_tanh")
    net = case.network
    theta, batch = case.make()
    x, y = batch.x_support, batch.y_support
    losses, gradients = fm.gradient(net, theta, x, y, device=device)
    products = fm.hvp(net, theta, gradients, x, y, device=device)
    phis = fm.adapt(net, theta, x, y, 0.1, 2, device=device)
    assert np.array_equal(fm.loss(net, phis, x, y, device=device) < losses, [True] * case.tasks)
    for t in range(case.tasks):
        loss, gradient = fm.gradient(net, theta, x[t], y[t], device=device)
        assert isinstance(loss, float)
        assert isinstance(fm.loss(net, theta, x[t], y[t], device=device), float)
        assert relative(loss, losses[t]) <= 1e-14
        assert relative(gradient, gradients[t]) <= 1e-13
        assert relative(fm.hvp(net, theta, gradient, x[t], y[t], device=device), products[t]) <= 1e-13
        assert relative(fm.adapt(net, theta, x[t], y[t], 0.1, 2, device=device), phis[t]) <= 1e-13
        assert relative(net.predict(theta, x[t], device), fm.predict(net, theta, x, device=device)[t]) <= 1e-13
    result = fm.meta_gradient(net, theta, batch, 0.1, 2, order, device=device)
    assert isinstance(result.inner_lr_gradient, float)
    assert np.isclose(result.loss, result.query_losses.mean(), rtol=1e-14)
    assert result.support_losses.shape == (case.tasks, 2)
    per_step = fm.meta_gradient(net, theta, batch, np.full((2, 1), 0.1), 2, order, device=device)
    assert np.isclose(per_step.inner_lr_gradient.sum(), result.inner_lr_gradient, rtol=1e-12)
    once = fm.meta_gradient(net, theta, batch, np.full(1, 0.1), 2, order, device=device)
    assert once.inner_lr_gradient.shape == (1,)
