"""Learners of policies: they learn, say what they measured, resume to the same bits and are found again."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastmeta as fm
from fastmeta import rl
from fastmeta.rl.learner import REJECTED
from fastmeta.rl.trust_region import curvature

WORLD = rl.Navigation2D(horizon=20)
SMALL = {"tasks_per_step": 4, "seed": 3}


def _maml(**settings):
    net = rl.gaussian_policy(2, 2, hidden=(8,), activation="tanh")
    return rl.MAML(net, **({"inner_lr": 0.3, "trajectories": 5, "device": "numpy"} | settings))


def _promp(**settings):
    net = rl.gaussian_policy(2, 2, hidden=(8,), activation="tanh")
    return rl.ProMP(net, **({"inner_lr": 0.1, "trajectories": 5, "outer_steps": 3, "device": "numpy"} | settings))


def test_navigation_rises():
    net = rl.gaussian_policy(2, 2, hidden=(32,))
    maml = rl.MAML(net, inner_lr=0.5, trajectories=10, device="numpy").fit(WORLD, 1, 10)
    before = maml.evaluate(WORLD, 20, inner_steps=[0, 1])
    maml = rl.MAML(net, inner_lr=0.5, trajectories=10, device="numpy").fit(WORLD, 25, 10)
    after = maml.evaluate(WORLD, 20, inner_steps=[0, 1])
    assert after[1].mean > before[1].mean + 1
    assert fm.compare(after[1], before[1]).significant
    assert after[1].mean > after[0].mean  # one step helps
    assert (maml.history["kl"] < 0.01).all()


@pytest.mark.parametrize("make", [_maml, _promp])
def test_history_says_what_was_measured(make):
    history = make().fit(WORLD, 3, **SMALL).history
    names = {"loss", "seconds", "return_before", "return_after", "entropy", "explained", "env_steps", "kl"}
    assert names | {"seconds_sampling", "seconds_products"} <= history.keys()
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in history.values())
    assert np.array_equal(history["loss"], -history["return_after"])
    assert (history["env_steps"] <= 2 * 4 * 5 * 20).all()
    assert (history["env_steps"] > 4 * 5 * 20).all()


@pytest.mark.parametrize(
    "make",
    [_maml, _promp, lambda: _maml(inner_steps=2, order=1, adapts="head"), lambda: _maml(device="cpu")],
)
def test_a_resumed_training_has_the_same_bits(make, tmp_path):
    path = tmp_path / "policy.safetensors"
    whole = make().fit(WORLD, 4, **SMALL)
    make().fit(WORLD, 2, checkpoint=path, **SMALL)
    resumed = make().fit(WORLD, 4, checkpoint=path, resume=True, **SMALL)
    assert np.array_equal(whole.theta, resumed.theta)
    for name in whole.history.keys() - {"seconds", "seconds_sampling", "seconds_products"}:
        assert np.array_equal(whole.history[name], resumed.history[name])


def test_meta_gradients_and_curvature_are_the_same_on_every_device():
    found = {}
    for device in ("numpy", "cpu"):
        maml, promp = _maml(device=device), _promp(device=device)
        at = maml.net.init(0, dtype="float64")
        sampled = maml.sampled(WORLD, WORLD.sample(4, 3), (3, 0), at)
        old = [s.outputs(p) + 0.1 for s, p in zip(sampled.adaptation.sets, sampled.adaptation.phis, strict=False)]
        along = np.random.default_rng(0).standard_normal(at.size)
        product = curvature(sampled.adaptation, sampled.query)(along)
        found[device] = maml.gradients(sampled), promp.gradients(sampled, 1.01 * at, old), product
    for ours, expected in zip(*found.values(), strict=True):
        assert np.abs(ours - expected).max() < 1e-11 * np.abs(expected).max()


def test_a_training_has_the_same_bits_for_one_and_two_threads(monkeypatch):
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("FASTMETA_NUM_THREADS", threads)
        found.append(_maml(device="cpu", trajectories=100).fit(WORLD, 2, **SMALL).theta)
    assert np.array_equal(*found)


def test_loaded_policies_adapt_with_numpy_where_numba_was_not_loaded(tmp_path):
    path = tmp_path / "policy"
    _maml().fit(WORLD, 1, **SMALL).save(path)
    program = (
        "import sys; import numpy as np; import fastmeta as fm\n"
        f"learner = fm.load({str(path)!r})\n"
        "model = learner.adapt(fm.rl.Trajectories(np.zeros((5, 20, 2)), np.ones((5, 20, 2)), np.ones((5, 20))))\n"
        "print(learner.device, model.act(np.zeros((3, 2))).shape, 'numba' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "cpu (3, 2) False\n"


def test_evaluation_is_the_same_in_other_chunks_and_pairs_algorithms():
    maml, promp = _maml().fit(WORLD, 1, **SMALL), _promp().fit(WORLD, 1, **SMALL)
    one, two = (maml.evaluate(WORLD, 5, [0, 1], [0.3, 0.1], tasks_per_step=n) for n in (5, 2))
    assert all(np.array_equal(one[n].values, two[n].values) for n in (0, 1))
    other = promp.evaluate(WORLD, 5)
    assert other.measure == "return"
    assert other.stream == one[1].stream
    assert "±" in str(fm.compare(other, one[1]))


def test_rates_of_evaluation_repeat_their_last():
    maml = _maml().fit(WORLD, 1, **SMALL)
    short, long = (maml.evaluate(WORLD, 3, 3, rates) for rates in ([0.3, 0.1], [0.3, 0.1, 0.1]))
    assert np.array_equal(short.values, long.values)
    assert not np.array_equal(short.values, maml.evaluate(WORLD, 3, 3, 0.3).values)


@pytest.mark.parametrize("adapts", ["head", "body"])
def test_only_what_adapts_moves(adapts):
    maml = _maml(adapts=adapts).fit(WORLD, 1, **SMALL)
    sampled = maml.sampled(WORLD, WORLD.sample(2, 5), (5, 0), maml.theta)
    moved = (sampled.adaptation.phis[-1] != maml.theta).any(axis=0)
    places = maml.net.views(np.arange(maml.theta.size))
    body = {"linear1.weight", "linear1.bias"}
    for name, place in places.items():
        assert moved[place].any() == ((name in body) == (adapts == "body")), name


def test_the_exploration_term_is_the_slope_of_the_first_log_likelihood():
    plain, paid = (_maml(explores=e) for e in (False, True))
    for learner in (plain, paid):
        learner.fit(WORLD, 1, theta=learner.net.init(0, dtype="float64"), optimizer=rl.TrustRegion(), **SMALL)
    sampled = plain.sampled(WORLD, WORLD.sample(4, 9), (9, 0), plain.theta)
    gain = sampled.returns - sampled.returns.mean()
    gain /= gain.std() + 1e-8
    first, phi = sampled.adaptation.sets[0], sampled.adaptation.phis[0]
    wanted = np.mean(
        [g * s for g, s in zip(gain, first.with_weights(first.shares).gradient(phi, "log"), strict=True)], axis=0
    )
    assert np.abs(paid.gradients(sampled) - plain.gradients(sampled) - wanted).max() < 1e-12


def test_pretrained_learns_without_inner_steps():
    net = rl.gaussian_policy(2, 2, hidden=(8,))
    learner = rl.Pretrained(net, trajectories=5, device="numpy").fit(WORLD, 2, **SMALL)
    assert np.array_equal(learner.history["return_before"], learner.history["return_after"])
    assert learner.evaluate(WORLD, 2, [0, 1])[1].measure == "return"


def test_promp_s_first_update_is_that_of_the_ratio_without_a_penalty():
    promp = _promp(kl_penalty=0, outer_steps=1).fit(WORLD, 1, theta=_promp().net.init(0, dtype="float64"), **SMALL)
    sampled = promp.sampled(WORLD, WORLD.sample(4, 9), (9, 0), promp.theta)
    old = [s.outputs(p) for s, p in zip(sampled.adaptation.sets, sampled.adaptation.phis, strict=False)]
    slopes = sampled.query.gradient(sampled.adaptation.phis[-1], "ratio")
    wanted = sampled.adaptation.pull(slopes)[0].mean(axis=0)
    assert np.abs(promp.gradients(sampled, promp.theta, old) - wanted).max() < 1e-12


def test_saved_learners_of_both_families_are_found(tmp_path):
    of_policies, of_labels = tmp_path / "rl", tmp_path / "sl"
    _maml().fit(WORLD, 1, **SMALL).save(of_policies)
    fm.MAML(fm.MLP((1, 4, 1)), 0.01, device="numpy").fit(fm.tasks.Sinusoid(), 1).save(of_labels)
    assert fm.Learner.algorithms["MAML"] is fm.MAML
    assert fm.Learner.algorithms["rl.MAML"] is rl.MAML
    program = (
        f"import fastmeta; print(*(type(fastmeta.load(p)).__module__ for p in {[str(of_policies), str(of_labels)]}))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["fastmeta.rl.maml", "fastmeta.algorithms.maml"]
    loaded = fm.load(of_policies, device="numpy")
    assert loaded.hyper_parameters() == _maml().hyper_parameters()


def test_adapt_takes_the_step_that_its_trajectories_say():
    maml = _maml().fit(WORLD, 1, **SMALL)
    sampled = maml.attempts(WORLD, WORLD.sample(2, 5), 1, 0.3, 5, 5, [0, 1])
    first = sampled[0]
    model = maml.adapt(first)
    alone = maml.adapt(first.task(1))
    assert model.theta.shape == (2, maml.theta.size)
    assert np.abs(model.theta[1] - alone.theta).max() < 1e-6
    assert alone.act([0.1, 0.2]).shape == (2,)
    assert alone.act(np.zeros((3, 2)), np.random.default_rng(0)).shape == (3, 2)
    drawn = [alone.act(np.zeros((1, 2)), np.random.default_rng(s)) for s in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_categorical_policy_learns_a_bandit_and_acts():
    bandit = rl.Bandit(3)
    maml = rl.MAML(rl.categorical_policy(1, 3, (8,)), trajectories=10, pooled=True, device="numpy").fit(bandit, 3, 10)
    arms = np.arange(10)[:, None] % 3
    model = maml.adapt(rl.Trajectories(np.ones((10, 1, 1)), arms, (arms == 0).astype(float)))
    assert model.act(np.ones((4, 1))).tolist() == [0] * 4


def test_ten_rejected_updates_end_a_training(monkeypatch):
    from fastmeta.rl import maml as module
    from fastmeta.rl.trust_region import Step

    monkeypatch.setattr(module, "step", lambda region, run, query, theta, *_: Step(theta, 0.0, 0.0))
    with pytest.raises(fm.DivergenceError, match=f"Iteration 10: {REJECTED} updates in a row"):
        _maml().fit(WORLD, 12, **SMALL)


class _Square(rl.World):
    """What each test changes one thing of."""

    horizon, observations, actions = 2, 2, 2

    def sample(self, tasks, seed, step=0):
        return {"goal": np.zeros((tasks, 2))}

    def reset(self, worlds, trajectories, rng):
        return np.zeros((len(worlds["goal"]), trajectories, 2))

    def step(self, worlds, state, actions, rng):
        return state, np.zeros(actions.shape[1]), np.zeros(actions.shape[:2], bool)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: _maml().fit(_Square(), 1, **SMALL), ValueError, "rewards of shape .* at step 0 must be numbers"),
        (lambda: _maml().fit(rl.Bandit(2), 1), TypeError, "must be a categorical policy for the actions of Bandit"),
        (lambda: _maml().fit(rl.Informed(WORLD), 1), ValueError, "must take 4 observations and give 2 actions"),
        (lambda: _maml().fit(fm.tasks.Sinusoid(), 1), TypeError, "must be a world"),
        (lambda: _maml(inner_lr=[]), ValueError, "inner_lr of shape"),
        (lambda: _maml(inner_lr=-1.0), ValueError, "inner_lr=-1.0 must be positive"),
        (lambda: _maml(discount=1.5), ValueError, "discount=1.5 must be at most 1"),
        (lambda: _maml(order=3), ValueError, "order=3 must be 2"),
        (lambda: _maml(surrogate="dice"), ValueError, 'surrogate="dice" must be one of'),
        (lambda: rl.TrustRegion(curvature_share=0.3), ValueError, "curvature_share=0.3 must be 1 / a whole number"),
        (lambda: rl.TrustRegion(max_kl=0), ValueError, "max_kl=0 must be positive"),
        (lambda: _promp().fit(WORLD, 1, optimizer=rl.TrustRegion()), TypeError, "must be of fm.rl.MAML"),
        (lambda: _maml().adapt(np.zeros(3)), TypeError, "trajectories=.* must be a fm.rl.Trajectories"),
        (lambda: _maml().evaluate(WORLD, 2, []), ValueError, "must not be empty"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, kind, said):
    with pytest.raises(kind, match=said):
        call()


def test_a_trust_region_is_for_policies():
    with pytest.raises(TypeError, match="must be of a learner whose network is a policy"):
        fm.MAML(fm.MLP((1, 4, 1)), 0.01, device="numpy").fit(fm.tasks.Sinusoid(), 1, optimizer=rl.TrustRegion())


def test_adam_outside_warns_that_there_is_no_trust_region():
    with pytest.warns(UserWarning, match="Adam has no trust region"):
        _maml().fit(WORLD, 1, optimizer=fm.Adam(1e-3), **SMALL)


@pytest.mark.parametrize(
    ("actions", "kind", "said"),
    [
        (np.zeros((1, 2, 3, 3)), ValueError, "actions are 3 wide but must be 2"),
        (np.zeros((1, 2, 3), int), TypeError, "actions of dtype int64 must be floats for a gaussian policy"),
    ],
)
def test_trajectories_of_another_policy_are_refused(actions, kind, said):
    maml = _maml().fit(WORLD, 1, **SMALL)
    with pytest.raises(kind, match=said):
        maml.adapt(rl.Trajectories(np.zeros((1, 2, 3, 2)), actions, np.zeros((1, 2, 3))))


def test_labels_outside_the_policy_s_are_refused():
    maml = rl.MAML(rl.categorical_policy(1, 3, (4,)), trajectories=5, device="numpy").fit(rl.Bandit(3), 1, 3)
    with pytest.raises(ValueError, match=r"actions must be 0 \.\. 2; one is not"):
        maml.adapt(rl.Trajectories(np.ones((5, 1, 1)), np.full((5, 1), 3), np.zeros((5, 1))))
    with pytest.raises(TypeError, match="must be whole numbers for a categorical policy"):
        maml.adapt(rl.Trajectories(np.ones((5, 1, 1)), np.zeros((5, 1, 1)), np.zeros((5, 1))))


def test_a_ratio_that_overflows_names_its_task():
    maml = _maml().fit(WORLD, 1, **SMALL)
    sampled = maml.sampled(WORLD, WORLD.sample(2, 5), (5, 0), maml.theta)
    from dataclasses import replace

    logs = sampled.query.logs.copy()
    logs[1, 0] -= 200
    with pytest.raises(fm.DivergenceError, match="the likelihood ratio of task 1 overflows"):
        replace(sampled.query, logs=logs).ratio_loss(sampled.query.outputs(sampled.adaptation.phis[-1]))


def test_validation_keeps_the_best_iteration():
    watched = {"validation": WORLD, "validate_every": 2, "validation_episodes": 5}
    maml = _maml().fit(WORLD, 6, **SMALL, **watched)
    scores = maml.history["validation"][1::2]
    assert maml.best.score == scores.max()
    assert maml.best.step == 2 * scores.argmax() + 2
    assert maml.evaluate(WORLD, 5, seed=1_000_002).mean == maml.best.score  # the best is what is evaluated
