"""Weights from PyTorch and back: against a forward pass of (N, C, H, W) images written here, and torch where it is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.networks.network import Network

STRIDE = fm.Conv4((28, 28, 1), 6, 5, "stride")
POOL = fm.Conv4((34, 33, 3), 5, 4, "pool")  # 2 x 2 at its end: the flatten order counts
MLP = fm.MLP((7, 9, 8, 3), "tanh")
CHAIN = Network(
    [
        fm.Conv2d(4, 5, 2, 1),
        fm.Affine(),
        fm.LayerNorm(),
        fm.Softplus(),
        fm.MaxPool2d(2),
        fm.Flatten(),
        fm.BatchNorm(),
        fm.ReLU(),
        fm.Linear(6),
        fm.LayerNorm(),
        fm.Affine(),
        fm.Linear(3),
    ],
    (13, 11, 2),
)
EMBEDDING = Network([fm.Conv2d(3), fm.Tanh(), fm.Flatten()], (4, 3, 2))
NETWORKS = {"stride": STRIDE, "pool": POOL, "mlp": MLP, "chain": CHAIN}


def statistics_over(x, axes, weight, bias):
    """(x - mean) / sqrt(variance + 1e-5), scaled and shifted on axis 1."""
    rest = (1, -1) + (1,) * (x.ndim - 2)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight.reshape(rest) + bias.reshape(rest)


def convolved(x, weight, stride, padding):
    """Cross-correlation of (N, I, H, W) with (O, I, k, k), pixel by pixel."""
    x, size = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding))), weight.shape[-1]
    height, width = ((n - size) // stride + 1 for n in x.shape[2:])
    out = np.zeros((len(x), len(weight), height, width))
    for i in range(height):
        for j in range(width):
            patch = x[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, :, i, j] = np.einsum("nihw,oihw->no", patch, weight)
    return out


def channels_first(net, state, x):
    """Outputs (N, O) of x (N, C, H, W) or (N, F), as an nn.Sequential of these modules in float64; norms as at training
    but for Affine, a batch norm in eval()."""
    for i, layer in enumerate(net.layers):
        own = {key.split(".")[1]: value.astype(float) for key, value in state.items() if key.split(".")[0] == str(i)}
        match layer:
            case fm.Conv2d():
                x = convolved(x, own["weight"], layer.stride, layer.padding)
                x = x + own["bias"][:, None, None] if layer.bias else x
            case fm.Linear():
                x = x @ own["weight"].T + own["bias"]
            case fm.BatchNorm():
                x = statistics_over(x, (0, *range(2, x.ndim)), own["weight"], own["bias"])
            case fm.LayerNorm():
                x = statistics_over(x, tuple(range(1, x.ndim)), own["weight"], own["bias"])
            case fm.Affine():
                rest = (1, -1) + (1,) * (x.ndim - 2)
                mean, variance, weight, bias = (
                    own[leaf].reshape(rest) for leaf in ("running_mean", "running_var", "weight", "bias")
                )
                x = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
            case fm.MaxPool2d():
                height, width = (n // layer.size for n in x.shape[2:])
                x = x[:, :, : height * layer.size, : width * layer.size]
                x = x.reshape(*x.shape[:2], height, layer.size, width, layer.size).max((3, 5))
            case fm.GlobalMeanPool():
                x = x.mean((2, 3))
            case fm.Flatten():
                x = x.reshape(len(x), -1)
            case _:
                x = {fm.ReLU: lambda x: np.maximum(x, 0), fm.Tanh: np.tanh, fm.Softplus: lambda x: np.logaddexp(x, 0)}[
                    type(layer)
                ](x)
    return x


def first(x):
    """(N, H, W, C) as (N, C, H, W)."""
    return np.moveaxis(x, -1, 1) if x.ndim == 4 else x


def theirs(net, seed=0, dtype="float32"):
    """A state_dict as a trained nn.Sequential of these layers would have it: all of it random."""
    rng = np.random.default_rng(seed)
    state = fm.to_state_dict(net, net.init(seed, dtype))
    for i, layer in enumerate(net.layers):
        if isinstance(layer, fm.BatchNorm):
            size = state[f"{i}.weight"].shape
            state |= {f"{i}.running_mean": np.ones(size, dtype), f"{i}.running_var": np.ones(size, dtype)}
            state[f"{i}.num_batches_tracked"] = np.array(7)
    for key, value in state.items():
        if not key.endswith("tracked"):
            state[key] = (value + 0.3 * rng.random(value.shape)).astype(dtype)
    return state


def inputs_of(net, seed=1):
    return np.random.default_rng(seed).normal(size=(9, *net.input_shape)).astype("float32")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_of_a_module_give_its_outputs(name):
    net = NETWORKS[name]
    state, x = theirs(net), inputs_of(net)
    theta = fm.from_state_dict(net, state)
    assert theta.dtype == np.float32
    expected = channels_first(net, state, first(x).astype(float))
    assert net.predict(theta, x, "numpy") == pytest.approx(expected, rel=1e-4, abs=1e-5)
    wide = {key: value.astype(float) if value.dtype.kind == "f" else value for key, value in state.items()}
    theta = fm.from_state_dict(net, wide)
    assert theta.dtype == np.float64
    assert net.predict(theta, x, "numpy") == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_learned_weights_give_a_module_the_same_outputs(name):
    net = NETWORKS[name]
    theta = net.init(3, "float64") + 0.1 * np.random.default_rng(3).normal(size=net.parameter_count)
    x = inputs_of(net)
    outputs = channels_first(net, fm.to_state_dict(net, theta), first(x).astype(float))
    assert outputs == pytest.approx(net.predict(theta, x, "numpy"), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back_changes_no_bit(name, dtype):
    net = NETWORKS[name]
    theta = net.init(5, dtype) + np.random.default_rng(5).normal(size=net.parameter_count).astype(dtype)
    state = fm.to_state_dict(net, theta)
    again = fm.from_state_dict(net, state)
    assert again.dtype == theta.dtype
    assert np.array_equal(again, theta)
    assert all(value.flags.c_contiguous and value.flags.writeable for value in state.values())
    assert {key.split(".")[1] for key in state} <= {"weight", "bias", "running_mean", "running_var"} | {
        "num_batches_tracked"
    }


def test_the_outputs_of_flattened_images_come_in_our_order():
    state, x = theirs(EMBEDDING), inputs_of(EMBEDDING)
    ours = EMBEDDING.predict(fm.from_state_dict(EMBEDDING, state), x, "numpy").reshape(9, 4, 3, 3)
    expected = channels_first(EMBEDDING, state, first(x).astype(float)).reshape(9, 3, 4, 3)
    assert first(ours) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_values_appended_to_flattened_features_keep_the_order():
    net = Network([fm.Conv2d(2), fm.Flatten(), fm.Append(2, 0.5), fm.Linear(1)], (3, 2, 1))
    state = theirs(net)
    assert state["2.values"].shape == (2,)
    theta = fm.from_state_dict(net, state)
    x = inputs_of(net)
    image = convolved(first(x), state["0.weight"], 1, 1) + state["0.bias"][:, None, None]
    features = np.concatenate([image.reshape(9, -1), np.tile(state["2.values"], (9, 1))], axis=1)
    expected = features @ state["3.weight"].T + state["3.bias"]
    assert net.predict(theta, x, "numpy") == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_names_and_running_statistics_of_the_module_are_kept():
    state = theirs(CHAIN)
    renamed = {f"body.block{int(key.split('.')[0]):02}.{key.split('.')[1]}": value for key, value in state.items()}
    theta = fm.from_state_dict(CHAIN, renamed)
    assert np.array_equal(theta, fm.from_state_dict(CHAIN, state))
    back = fm.to_state_dict(CHAIN, theta, like=renamed)
    assert list(back) == list(renamed)
    for key, value in renamed.items():
        assert back[key].dtype == value.dtype
        assert back[key] == pytest.approx(value, rel=1e-6, abs=1e-6), key
        if key.split(".")[2] in ("running_mean", "running_var", "num_batches_tracked"):
            assert np.array_equal(back[key], value)
    other = theta + np.float32(0.25)
    moved = fm.to_state_dict(CHAIN, other, like=renamed)
    assert fm.from_state_dict(CHAIN, moved) == pytest.approx(other, rel=1e-5)
    assert not np.array_equal(moved["body.block00.weight"], renamed["body.block00.weight"])


def test_an_order_that_is_not_that_of_the_layers_needs_names():
    net = fm.MLP((3,) * 13)  # layers of one shape: nothing but their order tells them apart
    state = theirs(net)
    alphabetic = dict(sorted(state.items()))  # as a safetensors file has it: 0, 10, 12, 2
    with pytest.raises(ValueError, match='module "18" before "2": its order is not that of the layers'):
        fm.from_state_dict(net, alphabetic)
    names = [str(2 * i) for i in range(12)]
    assert np.array_equal(fm.from_state_dict(net, alphabetic, names), fm.from_state_dict(net, state))
    reverse = fm.from_state_dict(net, alphabetic, names[::-1])
    assert np.array_equal(net.views(reverse)["linear12.weight"], state["0.weight"].T)
    given = fm.to_state_dict(net, reverse, names=names[::-1])
    assert all(np.array_equal(given[key], value) for key, value in state.items())
    for wrong in (names[:-1], [*names[:-1], "0"]):
        with pytest.raises(ValueError, match=r"must be 12 different names, of linear1, linear2, .*linear12 in this"):
            fm.from_state_dict(net, alphabetic, wrong)


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


def refused(net, state, names=None):
    with pytest.raises(ValueError, match=r"^state_dict must hold what ") as caught:
        fm.from_state_dict(net, state, names)
    with pytest.raises(ValueError, match=re.escape(str(caught.value))):
        fm.to_state_dict(net, net.init(), like=state, names=names)
    return str(caught.value).split(" has: ")[1]


def test_each_entry_that_is_missing_is_named():
    state = theirs(POOL)
    said = refused(POOL, without(state, "4.weight", "9.bias"))
    assert said == 'one for conv2.weight, (5, 5, 3, 3), is missing; "9.bias" is missing, (5,).'
    said = refused(POOL, {key: value for key, value in state.items() if not key.startswith(("9.", "17."))})
    assert said == (
        "one for norm3.scale, (5,), is missing; one for norm3.shift, (5,), is missing; "
        "one for linear1.weight, (4, 20), is missing; one for linear1.bias, (4,), is missing."
    )
    assert refused(MLP, theirs(MLP), ["0", "2", "head"]) == (
        '"head.weight" is missing, (3, 8); "head.bias" is missing, (3,); '
        '"4.weight" is left over; "4.bias" is left over.'
    )
    assert refused(CHAIN, without(theirs(CHAIN), "1.running_var")) == '"1.running_var" is missing, (4,).'


def test_each_entry_that_is_left_over_is_named():
    extra = {"9.weight": np.zeros((2, 2)), "9.bias": np.zeros(2), "4.scale": np.ones(3), "2.running_mean": np.ones(8)}
    assert refused(MLP, theirs(MLP) | extra) == (
        '"2.running_mean" is left over; "4.scale" is left over; "9.weight" is left over; "9.bias" is left over.'
    )


def test_each_entry_of_another_shape_is_named():
    state = theirs(STRIDE)
    state |= {"0.weight": np.zeros((6, 3, 3, 3)), "4.running_var": np.ones(7), "13.weight": state["13.weight"].T}
    assert refused(STRIDE, state) == (
        '"0.weight" for conv1.weight of shape (6, 3, 3, 3) must be (6, 1, 3, 3); '
        '"4.running_var" of shape (7,) must be (6,); "13.weight" for linear1.weight of shape (6, 5) must be (5, 6).'
    )


def test_what_holds_no_numbers_is_named():
    state = theirs(MLP)
    for wrong, kind, message in (
        (np.zeros((8, 9), int), TypeError, r'state_dict\["2.weight"\] of dtype int64 must be floats'),
        (np.full((8, 9), np.nan), ValueError, r'state_dict\["2.weight"\] must be finite; 72 of 72'),
        ([[1.0], [1.0, 2.0]], ValueError, r'state_dict\["2.weight"\] must be an array; its rows differ'),
    ):
        with pytest.raises(kind, match=message):
            fm.from_state_dict(MLP, state | {"2.weight": wrong})
    with pytest.raises(TypeError, match=r"state_dict must map names to arrays, as model\.state_dict"):
        fm.from_state_dict(MLP, list(state.items()))
    with pytest.raises(ValueError, match=r'state_dict\["1.running_var"\] must be at least 0; it reaches -2'):
        fm.from_state_dict(CHAIN, theirs(CHAIN) | {"1.running_var": np.full(4, -2.0)})
    with pytest.raises(ValueError, match=r"theta of shape \(3,\) must be"):
        fm.to_state_dict(MLP, np.zeros(3))


@pytest.mark.parametrize("name", NETWORKS)
def test_pytorch_agrees_both_ways(name):
    pytest.importorskip("torch", reason="PyTorch is in the environment of the benchmarks")
    from benchmarks.state_dicts import differences

    for found in differences(NETWORKS[name], device="numpy").values():
        assert found.exact < 1e-6
        assert found.float32 < 1e-6 + 4 * max(found.ours, found.torch)


def test_the_page_on_pytorch_is_right():
    torch = pytest.importorskip("torch", reason="PyTorch is in the environment of the benchmarks")
    from benchmarks.state_dicts import sequential

    page = Path(__file__).resolve().parents[2] / "docs" / "howto" / "pytorch.md"
    program = re.findall(r"^```py\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]
    model = sequential(fm.Conv4((28, 28, 1), 64, 5, "pool"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = {"fm": fm, "torch": torch, "model": model}
    exec(program, names)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert np.array_equal(names["maml"].theta, names["theta"])
