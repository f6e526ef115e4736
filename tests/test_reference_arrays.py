"""Every array of shared/reference on gradients, Hessians and adapted parameters, on every device."""

from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.networks.architectures import MLP, Conv4
from fastmeta.tasks.episode import Batch
from tests.gradcheck import relative

FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "reference"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="shared/reference is not beside this repository")

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
CONV = {"conv_stride2": ((28, 28, 1), "stride"), "conv_pool": ((36, 36, 3), "pool")}


@pytest.fixture(params=["numpy", "cpu"])
def device(request):
    return request.param


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return request.param


class Sinusoid:
    """w1_sinusoid.npz in fastmeta's conventions: they are the same."""

    def __init__(self, dtype, name="w1_sinusoid"):
        self.data = np.load(FOLDER / f"{name}.npz")
        self.net = MLP((1, 40, 40, 1))
        self.theta = self.flat("p{}").astype(dtype)
        self.lr = float(self.data["lr"])
        if name == "w1_sinusoid":
            self.batch = Batch(*(self.data[k].astype(dtype) for k in ("xs", "ys", "xq", "yq")))

    def flat(self, pattern, lead=0):
        arrays = [self.data[pattern.format(i)] for i in range(6)]
        return np.concatenate([a.reshape(*a.shape[:lead], -1) for a in arrays], axis=-1)


class Convolutional:
    """A conv file in fastmeta's conventions: NHWC images, HWIO kernels, features in H, W, C order."""

    def __init__(self, name, dtype):
        self.data = np.load(FOLDER / f"{name}.npz")
        image, downsample = CONV[name]
        self.side = 2 if downsample == "pool" else 1  # height and width of what is flattened
        self.net = Conv4(image, 8, 5, downsample)
        self.theta = self.flat("p{}").astype(dtype)
        self.lr = float(self.data["lr"])
        images = [np.moveaxis(self.data[k], 2, -1).astype(dtype) for k in ("xs", "xq")]
        self.batch = Batch(images[0], self.data["ys"], images[1], self.data["yq"])

    def flat(self, pattern):
        return np.concatenate([self._ours(self.data[pattern.format(i)], i).ravel() for i in range(14)])

    def _ours(self, array, i):
        if i in (0, 3, 6, 9):
            return array.transpose(2, 3, 1, 0)  # O I H W -> H W I O
        return self.features(array.T).T if i == 12 else array

    def features(self, array):
        """(.., C H W) -> (.., H W C)."""
        shaped = array.reshape(*array.shape[:-1], 8, self.side, self.side)
        return np.moveaxis(shaped, -3, -1).reshape(array.shape)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("order", [1, 2])
def test_sinusoid_meta_gradient(dtype, device, order, steps):
    w = Sinusoid(dtype)
    result = fm.meta_gradient(w.net, w.theta, w.batch, w.lr, steps, order, device=device)
    name = f"{'fomaml' if order == 1 else 'maml'}_s{steps}"
    assert relative(result.gradient, w.flat(name + "_g{}")) <= TOLERANCE[dtype]
    assert relative(result.loss, w.data[f"{name}_loss"]) <= TOLERANCE[dtype]
    assert relative(result.support_losses, w.data[f"inner_losses_s{steps}"]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("steps", [1, 5])
def test_sinusoid_adapted_parameters(dtype, device, steps):
    w = Sinusoid(dtype)
    x, y = w.batch.x_support[0], w.batch.y_support[0]
    phi = fm.adapt(w.net, w.theta, x, y, w.lr, steps, device=device)
    assert relative(phi, w.flat(f"adapted_task0_s{steps}_p{{}}")) <= TOLERANCE[dtype]


@pytest.mark.parametrize("steps", [1, 5])
def test_sinusoid_learned_rates(dtype, device, steps):
    w = Sinusoid(dtype)
    rates = w.flat("plr{}").astype(dtype)
    result = fm.meta_gradient(w.net, w.theta, w.batch, rates, steps, device=device)
    assert relative(result.loss, w.data[f"metasgd_s{steps}_loss"]) <= TOLERANCE[dtype]
    assert relative(result.gradient, w.flat(f"metasgd_s{steps}_g{{}}")) <= TOLERANCE[dtype]
    assert relative(result.inner_lr_gradient, w.flat(f"metasgd_s{steps}_glr{{}}")) <= TOLERANCE[dtype]
    layers = fm.meta_gradient(w.net, w.theta, w.batch, np.full(6, 0.01), steps, device=device)
    assert relative(layers.inner_lr_gradient, w.data[f"layerlr_s{steps}_glr"]) <= TOLERANCE[dtype]
    shared = fm.meta_gradient(w.net, w.theta, w.batch, 0.01, steps, device=device)
    assert relative(shared.inner_lr_gradient, w.data[f"layerlr_s{steps}_glr"].sum()) <= TOLERANCE[dtype]


def test_eight_steps_of_reptile_tasks(dtype, device):
    w = Sinusoid(dtype, "reptile")
    x, y = w.data["xs"].astype(dtype), w.data["ys"].astype(dtype)
    phi = fm.adapt(w.net, w.theta, x, y, w.lr, 8, device=device)
    assert relative(phi, w.flat("adapted_p{}", lead=1)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", CONV)
def test_convolutional_forward_and_gradient(dtype, device, name):
    w = Convolutional(name, dtype)
    x, y = w.batch.x_support[0], w.batch.y_support[0]
    assert relative(w.net.predict(w.theta, x, device), w.data["logits0_support_task0"]) <= TOLERANCE[dtype]
    loss, gradient = fm.gradient(w.net, w.theta, x, y, device=device)
    assert relative(loss, w.data["loss0_support_task0"]) <= TOLERANCE[dtype]
    assert relative(gradient, w.flat("grad0_support_task0_g{}")) <= TOLERANCE[dtype]
    image, downsample = CONV[name]
    body = Conv4(image, 8, None, downsample)
    features = body.predict(w.theta[: body.parameter_count], x, device)
    assert relative(features, w.features(w.data["features0_support_task0"])) <= TOLERANCE[dtype]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", CONV)
def test_convolutional_meta_gradient(dtype, device, name, order, steps):
    w = Convolutional(name, dtype)
    result = fm.meta_gradient(w.net, w.theta, w.batch, w.lr, steps, order, device=device)
    key = f"{'fomaml' if order == 1 else 'maml'}_s{steps}"
    assert relative(result.support_losses, w.data["inner_losses"][:, :steps]) <= TOLERANCE[dtype]
    error = relative(result.gradient, w.flat(key + "_g{}"))
    if dtype == "float32" and error > TOLERANCE[dtype]:  # allowed where a kink lies within float32's rounding only
        assert largest_jump(name, order, steps) > 1e-4 > relative(result.loss, w.data[f"{key}_loss"])
        return
    assert error <= TOLERANCE[dtype]
    assert relative(result.loss, w.data[f"{key}_loss"]) <= TOLERANCE[dtype]


def largest_jump(name, order, steps):
    """How far the float64 meta-gradient moves where theta moves by float32's rounding: 1e-6 relative, a few times."""
    w, rng = Convolutional(name, "float64"), np.random.default_rng(0)
    moved = [w.theta * (1 + 1e-6 * rng.standard_normal(w.theta.size)) for _ in range(8)]
    gradients = [
        fm.meta_gradient(w.net, theta, w.batch, w.lr, steps, order, device="numpy").gradient
        for theta in (w.theta, *moved)
    ]
    return max(relative(gradient, gradients[0]) for gradient in gradients)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", CONV)
def test_convolutional_head_alone(dtype, device, name, steps):
    w = Convolutional(name, dtype)
    result = fm.meta_gradient(w.net, w.theta, w.batch, w.lr, steps, adapt="head", device=device)
    assert relative(result.loss, w.data[f"anil_s{steps}_loss"]) <= TOLERANCE[dtype]
    assert relative(result.gradient, w.flat(f"anil_s{steps}_g{{}}")) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", CONV)
def test_convolutional_adapted_parameters_and_hessian(dtype, device, name):
    w = Convolutional(name, dtype)
    phi = fm.adapt(w.net, w.theta, w.batch.x_support[0], w.batch.y_support[0], w.lr, 2, device=device)
    assert relative(phi, w.flat("adapted_task0_p{}")) <= TOLERANCE[dtype]
    x, y = w.batch.x_query[0], w.batch.y_query[0]
    product = fm.hvp(w.net, w.theta, w.flat("hvp_v{}"), x, y, device=device)
    assert relative(product, w.flat("hvp_query_task0_h{}")) <= TOLERANCE[dtype]


def test_hessian_of_an_mlp(dtype, device):
    data = np.load(FOLDER / "hvp_mlp.npz")
    net = MLP((20, 16, 12, 10))
    theta, v, g, h = (np.concatenate([data[f"{k}{i}"].ravel() for i in range(6)]) for k in "pvgh")
    x, y, theta = data["x"], data["y"], theta.astype(dtype)
    loss, gradient = fm.gradient(net, theta, x, y, device=device)
    product = fm.hvp(net, theta, v, x, y, device=device)
    for value, expected in ((loss, data["loss"]), (gradient, g), (product, h)):
        assert relative(value, expected) <= TOLERANCE[dtype]
