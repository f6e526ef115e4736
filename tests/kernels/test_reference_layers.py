"""Every layer's four functions of the reference against central differences of each other."""

import numpy as np
import pytest

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import TaskSet
from fastmeta_kernels.reference import losses
from fastmeta_kernels.reference.layers import (
    activations,
    affine,
    batch_norm,
    convolution,
    layer_norm,
    linear,
    max_pool,
    mean_pool,
)
from tests.gradcheck import derivative, flat, relative

T, N = 3, 4
LINEAR = (linear, (T, N, 5), [(T, 5, 7), (T, 7)], ())


def _convolution(kernel, stride, padding):
    return (convolution, (T, N, 8, 7, 2), [(T, kernel, kernel, 2, 3), (T, 3)], (stride, padding))


WEIGHTED = {
    "linear": LINEAR,
    "convolution_1": _convolution(1, 1, 0),
    "convolution_1_stride_3": _convolution(1, 3, 0),
    "convolution_3": _convolution(3, 1, 1),
    "convolution_3_stride_2": _convolution(3, 2, 1),
    "convolution_3_unpadded": _convolution(3, 2, 0),
    "convolution_3_padding_2": _convolution(3, 3, 2),
    "convolution_5": _convolution(5, 1, 2),
    "convolution_5_stride_3": _convolution(5, 3, 1),
    "norm_of_vectors": (batch_norm, (T, N, 5), [(T, 5), (T, 5)], ()),
    "norm_of_images": (batch_norm, (T, N, 3, 2, 5), [(T, 5), (T, 5)], ()),
    "layer_norm_of_vectors": (layer_norm, (T, N, 5), [(T, 5), (T, 5)], ()),
    "layer_norm_of_images": (layer_norm, (T, N, 3, 2, 5), [(T, 5), (T, 5)], ()),
    "affine_of_vectors": (affine, (T, N, 5), [(T, 5), (T, 5)], ()),
    "affine_of_images": (affine, (T, N, 3, 2, 5), [(T, 5), (T, 5)], ()),
}


def _normal(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def _moved(arrays, directions, e):
    return [a + e * d for a, d in zip(arrays, directions, strict=True)]


@pytest.mark.parametrize("name", WEIGHTED)
def test_weighted_layer_agrees_with_central_differences(name):
    layer, x_shape, parameter_shapes, geometry = WEIGHTED[name]
    rng = np.random.default_rng(0)
    at, along = (_normal(rng, x_shape, *parameter_shapes) for _ in range(2))
    (x, weight, bias), (x_dot, weight_dot, bias_dot) = at, along
    y = layer.forward(x, weight, bias, *geometry)
    dy, dy_dot = _normal(rng, y.shape, y.shape)

    y_dot = layer.forward_tangent(x, x_dot, weight, weight_dot, bias_dot, *geometry)
    assert relative(y_dot, derivative(lambda e: layer.forward(*_moved(at, along, e), *geometry))) < 1e-9

    gradients = layer.backward(dy, x, weight, *geometry)
    assert [g.shape for g in gradients] == [a.shape for a in at]
    assert np.isclose(np.vdot(dy, y_dot), flat(gradients) @ flat(along), rtol=1e-12)

    def backward(e):
        return flat(layer.backward(dy + e * dy_dot, x + e * x_dot, weight + e * weight_dot, *geometry))

    tangents = layer.backward_tangent(dy, dy_dot, x, x_dot, weight, weight_dot, *geometry)
    assert relative(tangents, derivative(backward)) < 1e-9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_norm_of_a_constant_channel_is_its_shift_to_the_last_bit(dtype):
    """Also where the mean of equal numbers is not that number: what is left of it would be scaled by 1 / sqrt(eps)."""
    constants = np.array([0.1, -1234.567, 1e6 / 3, 0.0], dtype)
    ones = np.ones((1, 4), dtype)
    for samples in (3, 7, 23):
        x = np.broadcast_to(constants, (1, samples, 4))
        dy = np.random.default_rng(samples).standard_normal(x.shape).astype(dtype)
        assert not batch_norm.forward(x, ones, 0 * ones).any()
        assert (batch_norm.forward(x, ones, 3 * ones) == 3).all()
        assert not batch_norm.backward(dy, x, ones)[1].any()


@pytest.mark.parametrize("name", WEIGHTED)
def test_absent_tangents_and_gradients_change_nothing_else(name):
    layer, x_shape, parameter_shapes, geometry = WEIGHTED[name]
    rng = np.random.default_rng(1)
    x, weight, weight_dot, bias_dot = _normal(rng, x_shape, parameter_shapes[0], *parameter_shapes)
    zero = np.zeros_like(x)
    y_dot = layer.forward_tangent(x, None, weight, weight_dot, bias_dot, *geometry)
    assert np.array_equal(y_dot, layer.forward_tangent(x, zero, weight, weight_dot, bias_dot, *geometry))
    dy, dy_dot = _normal(rng, y_dot.shape, y_dot.shape)
    dx, *rest = layer.backward(dy, x, weight, *geometry, need_dx=False)
    assert dx is None
    assert relative(rest, layer.backward(dy, x, weight, *geometry)[1:]) < 1e-14
    absent = layer.backward_tangent(dy, dy_dot, x, None, weight, weight_dot, *geometry)
    assert relative(absent, layer.backward_tangent(dy, dy_dot, x, zero, weight, weight_dot, *geometry)) < 1e-14


@pytest.mark.parametrize("kind", [lt.RELU, lt.TANH, lt.SOFTPLUS])
def test_activation_agrees_with_central_differences(kind):
    rng = np.random.default_rng(2)
    x, x_dot, dy, dy_dot = _normal(rng, *[(T, N, 6)] * 4)
    x += np.sign(x) * 0.5  # no ReLU within reach of its kink
    y_dot = activations.forward_tangent(x, x_dot, kind)
    assert relative(y_dot, derivative(lambda e: activations.forward(x + e * x_dot, kind))) < 1e-9
    assert np.isclose(np.vdot(dy, y_dot), np.vdot(activations.backward(dy, x, kind), x_dot))
    tangent = activations.backward_tangent(dy, dy_dot, x, x_dot, kind)
    expected = derivative(lambda e: activations.backward(dy + e * dy_dot, x + e * x_dot, kind))
    assert relative(tangent, expected) < 1e-9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_are_finite_far_from_zero(dtype):
    x = np.array([[[-1e4, -100.0, 0.0, 100.0, 1e4]]], dtype)
    one = np.ones_like(x)
    for kind in (lt.RELU, lt.TANH, lt.SOFTPLUS):
        values = activations.forward(x, kind), activations.backward_tangent(one, one, x, one, kind)
        assert all(np.isfinite(v).all() and v.dtype == dtype for v in values)
    assert activations.forward(x, lt.SOFTPLUS)[0, 0, -1] == x[0, 0, -1]
    assert activations.backward(one, np.zeros_like(x), lt.RELU).max() == 0


@pytest.mark.parametrize(("size", "height", "width"), [(2, 6, 4), (2, 7, 5), (3, 8, 7), (1, 3, 3)])
def test_max_pool_agrees_with_central_differences(size, height, width):
    rng = np.random.default_rng(3)
    shape = (T, N, height, width, 2)
    x = rng.permutation(float(np.prod(shape)) * np.linspace(0, 1, np.prod(shape))).reshape(shape)  # 1 apart
    x_dot = rng.uniform(-1, 1, shape)
    y = max_pool.forward(x, size)
    assert y.shape == (T, N, height // size, width // size, 2)
    y_dot = max_pool.forward_tangent(x, x_dot, size)
    assert relative(y_dot, derivative(lambda e: max_pool.forward(x + e * x_dot, size))) < 1e-9
    dy = rng.standard_normal(y.shape)
    assert np.isclose(np.vdot(dy, y_dot), np.vdot(max_pool.backward(dy, x, size), x_dot))
    assert np.array_equal(max_pool.backward_tangent(dy, dy, x, x_dot, size), max_pool.backward(dy, x, size))


def test_max_pool_ties_go_to_the_first_in_row_order():
    x = np.array([[1.0, 3.0], [3.0, 3.0]]).reshape(1, 1, 2, 2, 1)
    dx = max_pool.backward(np.ones((1, 1, 1, 1, 1)), x, 2)
    assert dx.ravel().tolist() == [0, 1, 0, 0]


def test_mean_pool_agrees_with_central_differences():
    rng = np.random.default_rng(4)
    x, x_dot, dy = _normal(rng, (T, N, 3, 5, 2), (T, N, 3, 5, 2), (T, N, 2))
    y_dot = mean_pool.forward_tangent(x, x_dot)
    assert relative(y_dot, derivative(lambda e: mean_pool.forward(x + e * x_dot))) < 1e-9
    assert np.isclose(np.vdot(dy, y_dot), np.vdot(mean_pool.backward(dy, x), x_dot))
    assert np.array_equal(mean_pool.backward_tangent(dy, dy, x, x_dot), mean_pool.backward(dy, x))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labels", [False, True])
def test_losses_agree_with_central_differences(labels, weighted):
    rng = np.random.default_rng(5)
    z, z_dot = _normal(rng, (T, N, 6), (T, N, 6))
    y = rng.integers(0, 6, (T, N)) if labels else rng.standard_normal((T, N, 6))
    weights = rng.uniform(0, 3, (T, N)) if weighted else None
    data = TaskSet(z, y, weights)
    slopes = (losses.backward(z, data) * z_dot).sum(axis=(1, 2))
    assert relative(slopes, derivative(lambda e: losses.forward(z + e * z_dot, data))) < 1e-9
    tangent = losses.backward_tangent(z, z_dot, data)
    assert relative(tangent, derivative(lambda e: losses.backward(z + e * z_dot, data))) < 1e-9


def test_weights_multiply_each_sample_and_are_not_normalised():
    z, y = np.zeros((1, 2, 4)), np.array([[0, 3]])
    assert np.isclose(losses.forward(z, TaskSet(z, y))[0], np.log(4))
    assert np.isclose(losses.forward(z, TaskSet(z, y, np.array([[3.0, 1.0]])))[0], 2 * np.log(4))


def test_cross_entropy_of_huge_logits_is_finite():
    z, y = np.array([[[1e4, 0.0], [0.0, 1e4]]]), np.array([[0, 0]])
    assert losses.forward(z, TaskSet(z, y))[0] == 5e3
    assert np.array_equal(losses.backward(z, TaskSet(z, y)), [[[0, 0], [-0.5, 0.5]]])
