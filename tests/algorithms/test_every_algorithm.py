"""What every algorithm with inner steps promises: resumed and saved to the same bits, the same on every backend."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from tests.algorithms.learners import LEARNERS
from tests.gradcheck import relative

SINE = fm.tasks.Sinusoid(shots=5, queries=5)
NET = fm.MLP((1, 8, 8, 1), activation="tanh")


def assert_same_bits(a, b):
    assert a.training.step == b.training.step
    assert a.parameters.keys() == b.parameters.keys()
    for name, values in a.parameters.items():
        assert values.tobytes() == b.parameters[name].tobytes(), name
    assert a.history["loss"].tobytes() == b.history["loss"].tobytes()


@pytest.mark.parametrize("name", LEARNERS)
def test_resumed_to_the_same_bits(name, tmp_path):
    def learner():
        return LEARNERS[name](NET, device="numpy")

    optimizer = fm.SGD(fm.LinearSchedule(0.1, 0.0, 9)) if "Reptile" in name else fm.Adam(fm.CosineSchedule(1e-2, 0, 9))
    path = tmp_path / "run.safetensors"
    learner().fit(SINE, 4, optimizer=optimizer, seed=3, checkpoint=path)
    resumed = learner().fit(SINE, 9, optimizer=optimizer, seed=3, checkpoint=path, resume=True)
    straight = learner().fit(SINE, 9, optimizer=optimizer, seed=3)
    assert_same_bits(resumed, straight)
    assert relative(straight.theta, NET.init(3)) > 1e-3


@pytest.mark.parametrize("name", LEARNERS)
def test_theta_that_is_given_stays_the_givers(name):
    theta = NET.init(0)
    learner = LEARNERS[name](NET, device="numpy").fit(SINE, 0, theta=theta)
    assert not any(np.shares_memory(theta, values) for values in learner.parameters.values())


@pytest.mark.parametrize("name", LEARNERS)
def test_saved_and_loaded(name, tmp_path):
    learner = LEARNERS[name](NET, device="numpy").fit(SINE, 3)
    learner.save(tmp_path / "learner.safetensors")
    loaded = fm.load(tmp_path / "learner.safetensors", device="numpy")
    assert type(loaded) is type(learner)
    assert repr(loaded) == repr(learner)
    assert_same_bits(learner, loaded)
    score, again = (one.evaluate(SINE, episodes=8) for one in (learner, loaded))
    np.testing.assert_array_equal(score.values, again.values)


@pytest.mark.parametrize("name", LEARNERS)
def test_backends_agree(name):
    batch = SINE.sample(4, seed=1)
    theta = NET.init(0, "float64")
    one, other = (LEARNERS[name](NET, device=device).fit(SINE, 2, theta=theta) for device in ("numpy", "cpu"))
    assert relative(list(one.parameters.values()), list(other.parameters.values())) <= 1e-11
    other._training = one.training
    (loss, slopes), (other_loss, other_slopes) = one.meta_gradients(batch), other.meta_gradients(batch)
    assert loss == pytest.approx(other_loss, rel=1e-12)
    for key, slope in slopes.items():
        assert relative(other_slopes[key], slope) <= 1e-10, key
    adapted = [m.adapt(batch.x_support, batch.y_support, inner_steps=3).theta for m in (one, other)]
    assert relative(*adapted) <= 1e-12


@pytest.mark.parametrize("name", LEARNERS)
def test_learns_sine_curves(name):
    tasks = fm.tasks.Sinusoid(shots=10, queries=10)
    learner = LEARNERS[name](fm.MLP((1, 20, 20, 1), activation="tanh"), device="numpy")
    before = learner.fit(tasks, 0).evaluate(tasks, episodes=100).mean
    if "Reptile" in name:
        learner.fit(tasks, 800, tasks_per_step=10)
    else:
        learner.fit(tasks, 300, tasks_per_step=10, optimizer=fm.Adam(5e-3))
    scores = learner.evaluate(tasks, episodes=100, inner_steps=[0, learner.inner_steps])
    assert scores[learner.inner_steps].mean < 0.65 * before
    assert scores[learner.inner_steps].mean < 0.8 * scores[0].mean  # it is the adaptation that helps


@pytest.mark.parametrize("name", LEARNERS)
def test_steps_taken_at_once_and_one_by_one(name):
    """Several numbers of inner steps at once give what each gives alone; one task what it gives among others."""
    learner = LEARNERS[name](NET, device="numpy").fit(SINE, 2)
    scores = learner.evaluate(SINE, episodes=6, inner_steps=(5, 0, 1), tasks_per_step=4)
    assert list(scores) == [5, 0, 1]
    for steps, score in scores.items():
        alone = learner.evaluate(SINE, episodes=6, inner_steps=steps, tasks_per_step=1)
        np.testing.assert_allclose(score.values, alone.values, rtol=1e-4)
    batch = SINE.sample(3, seed=4)
    together = learner.adapt(batch.x_support, batch.y_support, inner_steps=3).predict(batch.x_query)
    alone = learner.adapt(batch.x_support[1], batch.y_support[1], inner_steps=3).predict(batch.x_query[1])
    np.testing.assert_allclose(together[1], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LEARNERS)
def test_divergence_names_the_inner_step(name):
    learner = LEARNERS[name](fm.MLP((1, 8, 1)), device="numpy").fit(SINE, 0)
    curve = fm.tasks.Sinusoid(amplitude=(1e19, 1e20)).sample(1, seed=0)
    with pytest.raises(fm.DivergenceError, match=r"inner step \d+|before any inner step"):
        learner.adapt(curve.x_support, curve.y_support, inner_steps=50)


@pytest.mark.parametrize("name", LEARNERS)
def test_batch_norm_of_the_support_set_and_one_query_sample(name):
    """Support: predictions do not depend on what else is predicted, and are those of a forward pass by hand."""
    net = fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Tanh(), fm.Linear(3)], 4)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((240, 4)).astype(np.float32)
    tasks = fm.tasks.from_arrays(x, np.repeat(np.arange(12), 20), ways=3, shots=2, queries=4)
    learner = LEARNERS[name](net, device="numpy").fit(tasks, 2)
    score = learner.evaluate(tasks, episodes=4, batch_norm="support")
    assert (score.batch_norm, learner.evaluate(tasks, episodes=4).batch_norm) == ("support", "transductive")
    batch = tasks.sample(2, seed=1)
    model = learner.adapt(batch.x_support, batch.y_support, batch_norm="support")
    outputs = model.outputs(batch.x_query)
    np.testing.assert_allclose(model.outputs(batch.x_query[:, :1]), outputs[:, :1], rtol=1e-5, atol=1e-6)
    for t, q in ((0, 3), (1, 7)):
        together = np.concatenate([batch.x_support[t], batch.x_query[t, q : q + 1]])
        expected = fm.predict(net, model.theta[t], together, device="numpy")[-1]
        np.testing.assert_allclose(outputs[t, q], expected, rtol=1e-5, atol=1e-6)
    single = learner.adapt(batch.x_support[1], batch.y_support[1], batch_norm="support").outputs(batch.x_query[1])
    np.testing.assert_allclose(single, outputs[1], rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="x has 1 tasks but the model was adapted to 2"):
        model.outputs(batch.x_query[:1])
    with pytest.raises(ValueError, match="x has 3 features but this network takes 4"):
        model.outputs(batch.x_query[..., :3])
    with pytest.raises(ValueError, match='batch_norm="suport" must be one of "transductive", "support"'):
        learner.evaluate(tasks, episodes=4, batch_norm="suport")
    with pytest.raises(ValueError, match=r'batch_norm="support" must be left out: .* has no batch norm'):
        LEARNERS[name](NET, device="numpy").fit(SINE, 0).evaluate(SINE, episodes=4, batch_norm="support")


@pytest.mark.parametrize("name", [*LEARNERS, "MAML++, running"])
def test_evaluation_scores_what_adapt_gives_with_the_same_batch_norm(name):
    net = fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Tanh(), fm.Linear(1)], 1)
    makers = LEARNERS | {"MAML++, running": lambda net, **o: fm.MAMLPlusPlus(net, 0.02, running_statistics=True, **o)}
    learner = makers[name](net, device="numpy").fit(SINE, 3)
    modes, seen = ["transductive", "support", *(["running"] if "running" in name else [])], []
    for mode in modes:
        score = learner.evaluate(SINE, episodes=3, seed=7, tasks_per_step=2, batch_norm=mode)
        assert score.batch_norm == mode
        for i, value in enumerate(score.values):
            batch = SINE.sample(1, seed=7, step=i)
            outputs = learner.adapt(batch.x_support, batch.y_support, batch_norm=mode).outputs(batch.x_query)
            assert value == pytest.approx(np.square(outputs - batch.y_query).mean(), rel=1e-4)
        seen.append(score.values)
    assert all(relative(one, other) > 1e-2 for i, one in enumerate(seen) for other in seen[:i])
