"""Zero-shot learning and side information: exact gradients, and the known optimum of a synthetic problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.learning import training
from tests.gradcheck import derivative, relative

TASKS = fm.tasks.AttributeClasses(ways=4, shots=2, queries=6)
EMBED, MAP = fm.MLP((10, 7, 5), "tanh"), fm.MLP((6, 4, 5), "tanh")


@pytest.fixture(params=["numpy", "cpu"])
def device(request):
    return request.param


def at(learner, parameters):
    learner._training = training.begin(parameters, learner.optimizers(fm.Adam()))
    return learner


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("algorithm", [fm.ZeroShot, fm.SideInformation])
def test_every_meta_parameter_has_the_gradient_of_central_differences(algorithm, metric, device):
    learner = algorithm(EMBED, MAP, metric, 3.0, device=device)
    learner.fit(TASKS, 0, theta=EMBED.init(1, "float64"))
    rng = np.random.default_rng(0)
    middle = {n: p + 0.1 * rng.standard_normal(p.shape) for n, p in learner.parameters.items()}
    batch = TASKS.sample(3, seed=2)
    slopes = at(learner, middle).meta_gradients(batch)[1]
    assert slopes.keys() == middle.keys()
    for name in middle:
        v = rng.standard_normal(middle[name].shape)
        v /= np.linalg.norm(v)

        def loss(e, name=name, v=v):
            return at(learner, middle | {name: middle[name] + e * v}).meta_gradients(batch)[0]

        allowed = 1e-7 * max(abs(slopes[name] @ v), np.linalg.norm(slopes[name]) / 10)
        assert abs(slopes[name] @ v - derivative(loss, 0.01)) <= allowed, name


def best_accuracy(tasks, episodes=200):
    """Accuracy of the nearest g s + (1 - g) a W, with the gate and the map that drew the tasks."""
    batch = tasks.sample(episodes, seed=77)
    c = batch.attributes @ tasks.best_map
    if tasks.shots:
        means = batch.x_support.reshape(episodes, tasks.ways, tasks.shots, -1).mean(axis=2)
        c = tasks.best_gate * means + (1 - tasks.best_gate) * c
    distances = ((batch.x_query[:, :, None] - c[:, None]) ** 2).sum(axis=3)
    return (distances.argmin(axis=2) == batch.y_query).mean(), batch


def accuracy(learner, batch):
    return (learner.query_outputs(batch).argmax(axis=2) == batch.y_query).mean()


def test_zero_shot_reaches_the_known_optimum():
    tasks = fm.tasks.AttributeClasses(shots=0, spread=0.1, noise=0.5)
    learner = fm.ZeroShot(fm.MLP((10, 10)), fm.MLP((6, 10)), device="numpy")
    best, batch = best_accuracy(tasks)
    assert accuracy(learner.fit(tasks, 0), batch) < 0.4
    learner.fit(tasks, 300, tasks_per_step=8, optimizer=fm.Adam(1e-2))
    assert best > 0.85
    assert accuracy(learner, batch) > best - 0.01
    assert learner.evaluate(replace(tasks, ways=10), episodes=50).mean > 0.6  # classes never seen, and more of them


def test_the_gate_and_the_accuracy_reach_the_known_optimum():
    tasks = fm.tasks.AttributeClasses(shots=2, spread=0.6, noise=1.0)
    learner = fm.SideInformation(fm.MLP((10, 10)), fm.MLP((6, 10)), device="numpy")
    learner.fit(tasks, 500, tasks_per_step=8, optimizer=fm.Adam(fm.CosineSchedule(2e-2, 1e-4, 500)))
    best, batch = best_accuracy(tasks)
    assert accuracy(learner, batch) > best - 0.015
    assert learner.gates(batch.attributes).mean() == pytest.approx(tasks.best_gate, abs=0.1)
    samples_only = fm.ProtoNet(fm.MLP((10, 10)), device="numpy").fit(tasks, 200, optimizer=fm.Adam(1e-2))
    assert accuracy(learner, batch) > accuracy(samples_only, batch) + 0.03


def test_best_gate_grows_with_the_shots():
    gates = [fm.tasks.AttributeClasses(shots=n).best_gate for n in (0, 1, 2, 5, 100)]
    assert gates[0] == 0
    assert gates == sorted(gates)
    assert gates[-1] > 0.95


@pytest.mark.parametrize("algorithm", [fm.ZeroShot, fm.SideInformation])
def test_a_model_gives_the_outputs_of_the_evaluation_and_is_saved(algorithm, tmp_path):
    learner = algorithm(EMBED, MAP, "cosine", device="numpy").fit(TASKS, 3)
    batch = TASKS.sample(2, seed=5)
    support = () if algorithm is fm.ZeroShot else (batch.x_support[0], batch.y_support[0])
    model = learner.adapt(*support, batch.attributes[0])
    assert model.prototypes.shape == (1, 4, 5)
    assert relative(model.outputs(batch.x_query[0]), learner.query_outputs(batch)[0]) <= 1e-6
    assert model.predict(batch.x_query[0]).shape == (24,)
    learner.save(tmp_path / "run.safetensors")
    loaded = fm.load(tmp_path / "run.safetensors", device="numpy")
    assert str(loaded) == str(learner)
    assert loaded.attribute_net == MAP
    assert np.array_equal(loaded.query_outputs(batch), learner.query_outputs(batch))


@pytest.mark.parametrize("algorithm", [fm.ZeroShot, fm.SideInformation])
def test_both_networks_start_from_the_seed(algorithm):
    one, two = (algorithm(EMBED, MAP, device="numpy").fit(TASKS, 0, seed=seed).parameters for seed in (3, 4))
    for name in ("theta", "map"):
        assert (one[name] != two[name]).any(), name


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="must have net's 5 outputs"):
        fm.ZeroShot(EMBED, fm.MLP((6, 4)))
    with pytest.raises(TypeError, match="attribute_net=3 must be a Network"):
        fm.SideInformation(EMBED, 3)
    with pytest.raises(ValueError, match="the tasks have no attributes"):
        fm.ZeroShot(EMBED, MAP, device="numpy").fit(fm.tasks.Sinusoid(), 1)
    with pytest.raises(ValueError, match="attributes has 6 features but this network takes 3"):
        fm.ZeroShot(EMBED, fm.MLP((3, 5)), device="numpy").fit(TASKS, 1)
    batch = TASKS.sample(1, seed=0)
    for algorithm in (fm.ZeroShot, fm.SideInformation):
        weighted = replace(batch, query_weights=np.ones(batch.y_query.shape))
        targets = replace(batch, y_support=np.ones((1, 8, 1)), y_query=np.ones((1, 24, 1)))
        made = algorithm(EMBED, MAP, device="numpy").fit(TASKS, 0)
        for other in (weighted, targets):
            for use in (made.meta_gradients, made.query_outputs):
                with pytest.raises(ValueError, match="need integer labels and samples without weights"):
                    use(other)
    learner = fm.SideInformation(EMBED, MAP, device="numpy").fit(TASKS, 0)
    with pytest.raises(ValueError, match="x_support has 1 tasks but attributes are of 2"):
        learner.adapt(batch.x_support, batch.y_support, np.repeat(batch.attributes, 2, axis=0))
    with pytest.raises(ValueError, match="as many classes as attributes describe, 4"):
        learner.adapt(batch.x_support[0], batch.y_support[0] // 2, batch.attributes[0])
    with pytest.raises(ValueError, match=r"attributes of shape \(2, 3\).* must be floats of shape \(1, ways"):
        fm.Batch(
            *(getattr(batch, n) for n in ("x_support", "y_support", "x_query", "y_query")), attributes=np.ones((2, 3))
        )
    with pytest.raises(ValueError, match=r"spread=0 must be positive"):
        fm.tasks.AttributeClasses(spread=0)
