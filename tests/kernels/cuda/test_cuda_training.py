"""Training with device="cuda": what stays on the device, and what comes back from it."""

from dataclasses import replace

import numpy as np
import pytest

import fastmeta as fm
import fastmeta.device
from fastmeta import inputs
from fastmeta.tasks.labelled import LabelledTasks
from fastmeta_kernels.cuda.machine import machine
from fastmeta_kernels.host import is_elsewhere

NET = fm.MLP((8, 6, 3), "tanh")
LINEAR = fm.MLP((8, 3))
EMBEDDING = fm.MLP((8, 6, 4), "tanh")
ATTRIBUTES = fm.MLP((5, 4))
NORMED = fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Tanh(), fm.Linear(3)], (8,))
ALL_CLASSES = fm.Network([fm.Linear(5), fm.BatchNorm(), fm.Tanh(), fm.Linear(6)], (8,))
LEARNERS = {
    "MAML": lambda device: fm.MAML(NET, 0.1, 2, learn_inner_lr=True, device=device),
    "ANIL": lambda device: fm.ANIL(NET, 0.1, 2, device=device),
    "MetaSGD": lambda device: fm.MetaSGD(NET, 0.1, 2, device=device),
    "MAMLPlusPlus": lambda device: fm.MAMLPlusPlus(NET, 0.1, 2, multi_step_iterations=3, device=device),
    "MAML++ with running statistics": lambda device: fm.MAMLPlusPlus(
        NORMED, 0.1, 2, multi_step_iterations=3, running_statistics=True, device=device
    ),
    "ProtoNet": lambda device: fm.ProtoNet(EMBEDDING, device=device),
    "Reptile": lambda device: fm.Reptile(NET, 0.01, 3, inner_batch=4, device=device),
    "Reptile with SGD": lambda device: fm.Reptile(NET, 0.1, 2, inner_optimizer="sgd", device=device),
    "iMAML": lambda device: fm.iMAML(NET, 0.1, 3, regularization=0.5, cg_steps=4, device=device),
    "iMAML, damped": lambda device: fm.iMAML(NET, 0.1, 3, 0.5, 4, cg_damping=5.0, proximal="after", device=device),
    "Transfer": lambda device: fm.Transfer(ALL_CLASSES, batch_size=8, device=device),
    "ZeroShot": lambda device: fm.ZeroShot(EMBEDDING, ATTRIBUTES, device=device),
    "SideInformation": lambda device: fm.SideInformation(EMBEDDING, ATTRIBUTES, device=device),
}


class Described(LabelledTasks):
    """Labelled tasks whose classes have attributes too."""

    def sample(self, tasks, seed, step=0):
        """A batch with attributes (tasks, ways, 5)."""
        attributes = np.random.default_rng((seed, step)).random((tasks, self.ways, 5), np.float32)
        return replace(super().sample(tasks, seed, step), attributes=attributes)


@pytest.fixture(autouse=True)
def backend(cuda):
    fastmeta.device.backend.cache_clear()
    yield
    fastmeta.device.backend.cache_clear()


def _tasks(kind="float"):
    rng = np.random.default_rng(0)
    x = rng.random((60, 8), np.float32) if kind == "float" else rng.integers(0, 256, (60, 8)).astype(np.uint8)
    return Described(x, np.repeat(np.arange(6), 10), ways=3, shots=2, queries=3)


def _fit(learner, tasks, iterations=4, **options):
    theta = learner.net.init(0, "float64")
    options = {"theta": theta} | options if "resume" not in options else options
    optimizer = fm.Adam(1e-2, clip_norm=10.0)
    return learner.fit(tasks, iterations, tasks_per_step=2, optimizer=optimizer, seed=3, **options)


@pytest.mark.parametrize("kind", ["float", "uint8"])
@pytest.mark.parametrize("name", LEARNERS)
def test_it_learns_what_the_reference_learns(name, kind):
    ours, expected = (_fit(LEARNERS[name](device), _tasks(kind)) for device in ("cuda", "numpy"))
    for parameter, values in expected.parameters.items():
        assert type(ours.parameters[parameter]) is np.ndarray
        np.testing.assert_allclose(ours.parameters[parameter], values, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.history["loss"], expected.history["loss"], rtol=1e-9)


@pytest.mark.parametrize("name", LEARNERS)
def test_samples_parameters_and_moments_stay_on_the_device(name, monkeypatch):
    seen = []
    learner, tasks = LEARNERS[name]("cuda"), _tasks()
    meta_gradients, array = learner.meta_gradients, inputs.array

    def watched(batch):
        with monkeypatch.context() as patch:
            patch.setattr(inputs, "array", never_fetching)
            loss, slopes = meta_gradients(batch)
        seen.append([batch.x_support, batch.x_query])
        for parameter in set(learner.gpu_parameters) & set(learner.parameters):
            moments = learner.training.moments[parameter].moments
            seen[-1] += [learner.parameters[parameter], slopes[parameter], *moments]
        return loss, slopes

    def never_fetching(argument, value, device="cpu"):
        assert device == "cuda" or not is_elsewhere(value), argument
        return array(argument, value, device)

    learner.meta_gradients = watched
    _fit(learner, tasks)
    assert len(seen) == 4
    assert all(len(values) > 4 for values in seen)
    assert all(is_elsewhere(value) for values in seen for value in values)
    assert not any(is_elsewhere(values) for values in learner.parameters.values())
    assert type(tasks.x) is np.ndarray


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "Transfer"])  # which is not ready before the end
def test_a_callback_may_evaluate(name):
    def scores(device):
        learner, found = LEARNERS[name](device), []
        options = {"batch_norm": "running"} if "running" in name else {}
        _fit(learner, _tasks(), callback=lambda *_: found.append(learner.evaluate(_tasks(), 4, **options).values))
        return found

    np.testing.assert_allclose(scores("cuda"), scores("numpy"), rtol=1e-9)


@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_episodes_gathered_on_the_device_have_the_same_bits(kind):
    tasks = _tasks(kind)
    there, here = (source.sample(3, seed=1, step=2) for source in (tasks.on_device("cuda"), tasks))
    for name in ("x_support", "x_query"):
        assert is_elsewhere(getattr(there, name))
        assert np.array_equal(getattr(there, name).get(), getattr(here, name))


def test_a_data_set_that_is_too_large_stays_on_the_host(monkeypatch):
    tasks = _tasks()
    monkeypatch.setattr("fastmeta_kernels.cuda.free_bytes", lambda: tasks.x.nbytes)
    moved = tasks.on_device("cuda")
    assert isinstance(moved, LabelledTasks)
    assert type(moved.x) is np.ndarray


@pytest.mark.parametrize("name", LEARNERS)
def test_a_resumed_training_has_the_same_bits(name, tmp_path):
    tasks, path = _tasks(), tmp_path / "run.safetensors"
    whole = _fit(LEARNERS[name]("cuda"), tasks)
    _fit(LEARNERS[name]("cuda"), tasks, 2, checkpoint=path)
    resumed = _fit(LEARNERS[name]("cuda"), tasks, 4, checkpoint=path, resume=True)
    loaded = fm.load(path)
    assert loaded.training.step == 4
    for parameter, values in whole.parameters.items():
        assert np.array_equal(resumed.parameters[parameter], values)
        assert np.array_equal(loaded.parameters[parameter], values)
        for ours, expected in zip(
            loaded.training.moments[parameter].moments, whole.training.moments[parameter].moments, strict=True
        ):
            assert np.array_equal(ours, expected)


def test_a_training_that_diverges_comes_back_to_the_host():
    learner = fm.MAML(NET, 0.1, 2, device="cuda")
    with pytest.raises(fm.DivergenceError, match="overflows"):
        learner.fit(_tasks(), 4, tasks_per_step=2, optimizer=fm.SGD(1e300), theta=NET.init(0, "float64") * 1e2)
    assert type(learner.theta) is np.ndarray


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (lambda device: fm.Reptile(LINEAR, 1e308, 3, inner_optimizer="sgd", device=device), "step 1 of 3: the update"),
        (lambda device: fm.iMAML(LINEAR, 1e308, 3, device=device), "step 1 of 3: the update"),
        (lambda device: fm.iMAML(LINEAR, 1e-3, 1, regularization=1e-310, device=device), "gradients overflow"),
    ],
)
@pytest.mark.parametrize("device", ["cuda", "numpy"])
def test_what_overflows_is_found_on_the_device_as_on_the_host(learner, message, device):
    tasks = replace(_tasks(), x=1e2 * _tasks().x)
    with pytest.raises(fm.DivergenceError, match=message):
        learner(device).fit(tasks, 1, tasks_per_step=2, theta=LINEAR.init(0, "float64"))


def test_the_functional_layer_takes_arrays_on_the_device():
    batch, theta = _tasks().sample(2, seed=0), NET.init(0, "float64")
    move = machine.cupy().asarray
    there = fm.Batch(move(batch.x_support), batch.y_support, move(batch.x_query), batch.y_query)
    ours = fm.meta_gradient(NET, move(theta), there, 0.1, 2, device="cuda")
    expected = fm.meta_gradient(NET, theta, batch, 0.1, 2, device="numpy")
    assert is_elsewhere(ours.gradient)
    assert type(ours.query_losses) is np.ndarray
    np.testing.assert_allclose(ours.gradient.get(), expected.gradient, rtol=1e-9)
    on_host = fm.meta_gradient(NET, theta, there, 0.1, 2, device="numpy")
    assert np.array_equal(on_host.gradient, expected.gradient)
    phi = fm.adapt(NET, move(theta), there.x_support, batch.y_support, 0.1, 2, device="cuda")
    assert is_elsewhere(phi)
    product = fm.hvp(NET, move(theta), move(theta), there.x_support, batch.y_support, device="cuda")
    expected = fm.hvp(NET, theta, theta, batch.x_support, batch.y_support, device="numpy")
    np.testing.assert_allclose(product.get(), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="x must be finite"):
        fm.loss(NET, theta, move(batch.x_support) * np.nan, batch.y_support, device="cuda")
