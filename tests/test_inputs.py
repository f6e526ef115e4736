"""The public door: what is converted, and what every error says."""

import re

import numpy as np
import pytest

import fastmeta as fm
import fastmeta.device
from fastmeta import inputs
from fastmeta.checks import DivergenceError
from fastmeta.device import backend
from fastmeta.networks.architectures import MLP
from fastmeta.networks.layers import Conv2d, GlobalMeanPool, Tanh
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels import reference
from tests.algorithms.learners import Fixed
from tests.cases import CASES, Case

NET = MLP((1, 4, 5), "tanh")
X, LABELS, TARGETS = np.zeros((2, 3, 1)), np.zeros((2, 3), int), np.zeros((2, 3, 5))
IMAGES = Network([Conv2d(2), Tanh(), GlobalMeanPool()], (6, 5, 1))


def _batch(**changes):
    return Batch(*({"xs": X, "ys": LABELS, "xq": X, "yq": LABELS} | changes).values())


def _meta(net=NET, theta=None, batch=None, **arguments):
    theta = net.init(0) if theta is None else theta
    return fm.meta_gradient(net, theta, _batch() if batch is None else batch, device="numpy", **arguments)


def _meta_call(**arguments):
    return lambda: _meta(**arguments)


def _loss_call(x=X, y=LABELS, weights=None, net=NET, theta=None):
    return lambda: fm.loss(net, net.init(0) if theta is None else theta, x, y, weights, device="numpy")


WIDE = np.zeros((2, 3, 3))
BAD = {
    "x_support has 3 features but this network takes 1 (MLP(sizes=(1, 4, 5))).": _meta_call(
        batch=_batch(xs=WIDE, xq=WIDE)
    ),
    "labels must be 0 .. ways-1; got 7 with a network of 5 outputs.": _meta_call(batch=_batch(yq=LABELS + 7)),
    "labels must be 0 .. ways-1; got -1 with a network of 5 outputs.": _loss_call(y=LABELS - 1),
    "y_query of shape (2, 3, 2) must be (2, 3, 5)": _meta_call(batch=_batch(ys=TARGETS, yq=TARGETS[..., :2])),
    "y of shape (2, 3) must be (2, 3, 5)": _loss_call(y=LABELS * 1.0),
    "y of shape (3,) must be (3, 5)": _loss_call(X[0], LABELS[0] * 1.0),
    "y of shape (2, 4) must hold one label a sample: (2, 3).": _loss_call(y=np.zeros((2, 4), int)),
    "y of dtype complex128 must be integer labels or float targets.": _loss_call(y=LABELS * 1j),
    "x of dtype complex128 must be numbers.": _loss_call(X * 1j),
    "x must be finite; 6 of 6 values are not, the first at (0, 0, 0).": _loss_call(X + np.nan),
    "y must be finite; 30 of 30": _loss_call(y=TARGETS + np.inf),
    "weights must be finite": _loss_call(weights=np.full((2, 3), np.nan)),
    "weights of shape (3,) must be numbers of shape (2, 3), one a sample.": _loss_call(weights=np.ones(3)),
    "theta must be finite": _loss_call(theta=NET.init(0) * np.nan),
    "theta of dtype int64 must be floats.": _loss_call(theta=np.zeros(33, int)),
    "theta of shape (7,) must be (33,) or (2, 33)": _loss_call(theta=np.zeros(7)),
    "theta of shape (2, 33) must be (33,)": _loss_call(X[0], LABELS[0], theta=np.zeros((2, 33))),
    "x of shape (0, 3, 1) has no tasks. Give at least one.": _loss_call(X[:0], LABELS[:0]),
    "x of shape (2, 0, 1) has no samples. Give at least one.": _loss_call(X[:, :0], LABELS[:, :0]),
    "x of shape (6,) must be (samples, 1) or (tasks, samples, 1)": _loss_call(X.ravel()),
    "x has images of 5 x 6 x 1 but this network takes 6 x 5 x 1": _loss_call(np.zeros((2, 3, 5, 6, 1)), net=IMAGES),
    "inner_lr=-0.1 must be positive.": _meta_call(inner_lr=-0.1),
    "inner_lr=nan must be finite.": _meta_call(inner_lr=np.nan),
    'inner_lr="fast" must be a number.': _meta_call(inner_lr="fast"),
    "inner_lr of shape (3,) must be a number or an array whose last axis is 1, 4": _meta_call(inner_lr=np.ones(3)),
    "or 33 (one per parameter), with an optional first axis of 1 or inner_steps=2.": _meta_call(
        inner_lr=np.ones((3, 4)), inner_steps=2
    ),
    "inner_lr must be finite; 1 of 1": _meta_call(inner_lr=np.array([np.inf])),
    "inner_lr=1e-60 must not be 0 as float32, for which it is too small. Use a larger": _meta_call(inner_lr=1e-60),
    "inner_lr=-1e-60 must not be 0 as float32": _meta_call(inner_lr=[0.0, 0.1, -1e-60, 0.1]),
    "inner_lr is too large for float32: it reaches 1e+300. Use a float64": _meta_call(inner_lr=1e300),
    "inner_lr must be an array; its rows differ in length.": _meta_call(inner_lr=[[0.1], [0.1, 0.2]]),
    "x must be an array; its rows differ in length. Give each as many values; x[0] has 2, x[1] has 1.": _loss_call(
        [[1, 2], [3]]
    ),
    "y must be an array; its rows differ": _loss_call(y=[[1, 2, 3], [1]]),
    "weights must be an array; its rows differ": _loss_call(weights=[[1, 2, 3], [1]]),
    "theta must be an array; its rows differ": _loss_call(theta=[[1.0, 2.0], [1.0]]),
    "x is too large for float32: it reaches 1e+300. Use a float64 theta, or scale it.": _loss_call(X - 1e300),
    "x_query is too large for float32": _meta_call(batch=_batch(xq=X + 1e300)),
    "y is too large for float32": _loss_call(y=TARGETS + 1e300),
    "weights is too large for float32": _loss_call(weights=np.full((2, 3), 1e300)),
    "v is too large for float32": lambda: fm.hvp(NET, NET.init(0), np.full(33, 1e300), X, LABELS, device="numpy"),
    "inner_steps=1000000000000 must be at most 1000000.": _meta_call(inner_steps=10**12),
    "order=True must be a whole number. Use 2 (exact) or 1 (first order).": _meta_call(order=True),
    "order=2.0 must be a whole number.": _meta_call(order=2.0),
    "order=array([1, 2]) must be a whole number.": _meta_call(order=np.array([1, 2])),
    "inner_steps=-1 must be at least 0.": _meta_call(inner_steps=-1),
    "inner_steps=1.5 must be a whole number.": _meta_call(inner_steps=1.5),
    "order=3 must be 2 (exact) or 1 (first order).": _meta_call(order=3),
    'adapt="feet" must be one of "all", "head", "body".': _meta_call(adapt="feet"),
    'adapt="head" needs a network whose last layer with parameters is Linear': _meta_call(
        net=IMAGES,
        adapt="head",
        batch=Batch(*[np.zeros((2, 3, 6, 5, 1)), np.zeros((2, 3), int)] * 2),
    ),
    'memory="stach" must be one of "auto", "stash", "recompute". Did you mean "stash"?': _meta_call(memory="stach"),
    "batch must be a fastmeta.Batch(x_support, y_support, x_query, y_query)": _meta_call(batch=(X, X, X, X)),
    'device="gpu" must be one of "cpu", "numpy", "cuda".': lambda: backend("gpu"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_with_advice(message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        BAD[message]()


@pytest.mark.parametrize("name", ["ys", "yq"])
def test_the_first_label_that_no_output_has_is_refused(name):
    labels = LABELS.copy()
    labels[1, 2] = NET.outputs
    with pytest.raises(ValueError, match=r"labels must be 0 \.\. ways-1; got 5 with a network of 5 outputs"):
        _meta(batch=_batch(**{name: labels}))


@pytest.fixture(params=["numpy", "cpu"])
def device(request):
    return request.param


LAYOUTS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "not contiguous": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed strides": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: _read_only(a.copy()),
    "unaligned": lambda a: _unaligned(a),
    "list": lambda a: a.tolist(),
}


def _read_only(array):
    array.flags.writeable = False
    return array


def _unaligned(array):
    room = np.empty(array.nbytes + 1, np.uint8)[1:]
    view = room.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_layout_give_the_same_bits(device, layout):
    case = next(c for c in CASES if c.name == "kernel_5_stride_3")
    theta, batch = case.make()
    change = LAYOUTS[layout]
    x, y = batch.x_support, batch.y_support
    expected = fm.gradient(case.network, theta, x, y, device=device)
    # a list of Python floats is float64, as theta is here
    found = fm.gradient(case.network, change(theta), change(x), change(y), device=device)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ["uint8", "int16", "bool", "float16", "float64"])
def test_samples_become_the_dtype_of_theta(device, kind):
    x = (np.arange(6).reshape(2, 3, 1) % 2).astype(kind)
    for dtype in ("float32", "float64"):
        theta = NET.init(0, dtype)
        pixels = np.divide(x, np.float32(255), dtype=np.float32)  # what uint8 means
        expected = fm.predict(NET, theta, pixels if kind == "uint8" else x.astype(dtype), device=device)
        found = fm.predict(NET, theta, x, device=device)
        assert found.dtype == dtype
        assert np.array_equal(found, expected)
    labels = LABELS.astype("uint8")
    assert np.array_equal(*[fm.loss(NET, theta, X, y, device=device) for y in (LABELS, labels)])
    assert fm.gradient(NET, theta.astype("float16"), X, LABELS, device=device)[1].dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_names_the_step_and_the_cause(device, dtype):
    case = Case("diverging", MLP((2, 8, 2), "relu"), "squared_error")
    theta, batch = case.make(dtype)
    with pytest.raises(DivergenceError, match=r"task \d diverged at inner step \d+ of 30.*inner_lr=50\.0 is too"):
        fm.meta_gradient(case.network, theta, batch, 50.0, 30, device=device)
    with pytest.raises(DivergenceError, match=r"diverged at inner step \d+ of 30.*\(a\) inner_lr is too large"):
        fm.adapt(case.network, theta, batch.x_support, batch.y_support, np.full(1, 50.0), 30, device=device)
    huge = np.finfo(dtype).max / 4
    x = batch.x_support.copy()
    x[1] = huge
    with pytest.raises(DivergenceError, match="the loss of task 1 is inf: theta, the data or the weights"):
        fm.loss(case.network, theta, x, batch.y_support, device=device)
    with pytest.raises(DivergenceError, match="task 0 is not finite before any inner step"):
        fm.adapt(case.network, theta * 0 + huge, batch.x_support, batch.y_support, device=device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_overflowing_derivatives_and_outputs_say_what_is_not_finite(device, dtype):
    net, huge = MLP((1, 2)), np.finfo(dtype).max / 4
    theta, x, y = np.ones(4, dtype), np.full((3, 1), 2.0), np.zeros((3, 2))
    cure = r"to about 1, or use a float64 theta\.$" if dtype == "float32" else r"to about 1\.$"
    with pytest.raises(DivergenceError, match=f"product is not finite although every loss is.* Scale v or .*{cure}"):
        fm.hvp(net, theta, theta * huge, x, y, device=device)
    with pytest.raises(DivergenceError, match="the loss of task 0 is inf"):
        fm.hvp(net, theta * huge, theta * huge, x, y, device=device)
    with pytest.raises(DivergenceError, match=f"output 0 of sample 0 is inf: .* Scale x {cure}"):
        fm.predict(net, theta * huge, x * 4, device=device)
    with pytest.raises(DivergenceError, match="output 1 of sample 2 of task 1 is -inf"):
        fm.predict(net, np.array([0, -huge, 0, 0], dtype), [[[1], [1], [1]], [[1], [1], [9]]], device=device)


def test_rates_of_any_sign():
    rates = [-0.1, 0.0, 0.1, 0.2]
    assert fm.adapt(NET, NET.init(0), X[0], LABELS[0], rates, device="numpy").shape == (33,)


def test_an_array_on_a_gpu_is_brought_to_the_host():
    values = np.arange(3.0)

    class OnDevice:
        def __init__(self):
            self.__cuda_array_interface__ = {"version": 3}

        def get(self):
            return values

        def __array__(self, *_):
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    assert np.array_equal(inputs.array("x", OnDevice()), values)


def test_overflowing_gradients_of_rates_and_of_step_parameters_are_named(device):
    """Every loss and the gradient of theta are finite in float32, but the squared gradient is not."""
    net, theta = MLP((1, 1)), np.zeros(2, np.float32)
    x, far = np.ones((1, 1, 1)), np.full((1, 1, 1), 1e19)
    batch = Batch(x, far, x, far)
    with pytest.raises(DivergenceError, match="the gradient of inner_lr is not finite although every loss is"):
        fm.meta_gradient(net, theta, batch, 1e-30, device=device)
    steep, own = Batch(x, far, 1e20 * x, far), {"linear1.weight": np.zeros((1, 1, 1))}
    with pytest.raises(DivergenceError, match="the gradient of step_parameters is not finite although every loss is"):
        fm.meta_gradient(net, theta, steep, inner_steps=0, step_parameters=own, device=device)


class Recorder:
    """The reference, and every array that it is given."""

    def __init__(self):
        self.arrays = []

    def __getattr__(self, name):
        def call(*arguments):
            self._look(arguments)
            return getattr(reference, name)(*arguments)

        return call

    def _look(self, values):
        for value in values:
            if isinstance(value, np.ndarray):
                self.arrays.append(value)
            elif isinstance(value, tuple):
                self._look(value)


@pytest.mark.parametrize("layout", ["big-endian", "Fortran order", "not contiguous", "unaligned"])
def test_what_reaches_a_backend_is_contiguous_aligned_and_of_one_dtype(layout, monkeypatch):
    change, rng, recorder = LAYOUTS[layout], np.random.default_rng(0), Recorder()
    monkeypatch.setattr(fastmeta.device, "backend", lambda device: recorder)

    def drawn(*shape):
        return change(rng.uniform(0.1, 1, shape))

    net = MLP((3, 4, 5), "tanh")
    thetas, labels, weights = drawn(2, net.parameter_count), change(np.arange(14).reshape(2, 7) % 5), drawn(2, 7)
    x, attributes = drawn(2, 7, 3), drawn(2, 5, 6)
    own = {"linear2.weight": drawn(4, 4, 5), "linear1.bias": drawn(4, 4)}
    fm.predict(net, thetas, x)
    for y in (labels, drawn(2, 7, 5)):
        fm.hvp(net, thetas, drawn(2, net.parameter_count), x, y, weights)
        fm.adapt(net, thetas, x, y, drawn(3, 4), 3, weights=weights, step_parameters=own)
        batch = Batch(x, y, x, y, weights, weights)
        fm.meta_gradient(net, thetas[0].copy(), batch, drawn(3, 4), 3, loss_weights=drawn(4), step_parameters=own)
    fm.prototype_loss(x, labels, x, labels)
    batch = Batch(x, labels, x, labels, attributes=attributes)
    for learner in (
        fm.ProtoNet(net),
        fm.ZeroShot(net, MLP((6, 5))),
        fm.SideInformation(net, MLP((6, 5))),
    ):
        learner.fit(Fixed(batch), 1, theta=thetas[0]).query_outputs(batch)
    assert len(recorder.arrays) > 60
    for array in recorder.arrays:
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.dtype in (np.float64, np.int64)
        assert array.dtype.isnative
