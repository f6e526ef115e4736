from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastmeta as fm
from fastmeta.algorithms.maml_plus_plus.norm_statistics import measure
from tests.algorithms.learners import Fixed, meta_gradient_errors
from tests.gradcheck import relative
from tests.gradients.test_gradients import EVERYDAY, cases

NORMED = fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Tanh(), fm.Linear(5), fm.BatchNorm(), fm.Tanh(), fm.Linear(3)], 4)
NAMES = ("norm1.scale", "norm1.shift", "norm2.scale", "norm2.shift")


def clusters(ways=3, shots=2, queries=4):
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((12, 4)), 20, axis=0) + 0.1 * rng.standard_normal((240, 4))
    return fm.tasks.from_arrays(x.astype(np.float32), np.repeat(np.arange(12), 20), ways, shots, queries)


def learner(net=NORMED, dtype="float64", iterations=0, **switches):
    made = fm.MAMLPlusPlus(net, **{"inner_lr": 0.1, "inner_steps": 2, "device": "numpy"} | switches)
    return made.fit(clusters(), iterations, tasks_per_step=4, theta=net.init(0, dtype))


@EVERYDAY
@given(drawn=cases(), data=st.data())
def test_meta_gradients_against_central_differences(drawn, data):
    """theta, the rate of every step and array, and every step's scales and shifts, at any point of the annealing."""
    case, seed, weighted, _, steps, _ = drawn
    theta, batch = case.make(seed=seed, weighted=weighted)
    made = fm.MAMLPlusPlus(
        case.network,
        0.05,
        max(steps, 1),
        learn_inner_lr=data.draw(st.booleans()),
        multi_step_iterations=data.draw(st.sampled_from([0, 4])),
        device="numpy",
    )
    made.fit(Fixed(batch), data.draw(st.integers(0, 5)), theta=theta, optimizer=fm.Adam(0.03))
    expected = {"theta"} | ({"inner_lr"} if made.learn_inner_lr else set()) | ({"norms"} if made.step_norms else set())
    errors = meta_gradient_errors(made, batch, seed)
    assert errors.keys() == expected
    assert max(errors.values()) <= 1e-7


def test_with_everything_off_it_is_maml():
    off = {"learn_inner_lr": False, "multi_step_iterations": 0, "step_norms": False}
    plain, batch = learner(**off), clusters().sample(3, seed=1)
    maml = fm.MAML(NORMED, 0.1, 2, device="numpy").fit(clusters(), 0, theta=plain.theta)
    (loss, slopes), (expected, expected_slopes) = plain.meta_gradients(batch), maml.meta_gradients(batch)
    assert loss == expected
    assert slopes.keys() == expected_slopes.keys() == {"theta"}
    np.testing.assert_array_equal(slopes["theta"], expected_slopes["theta"])
    adapted = [m.adapt(batch.x_support, batch.y_support, inner_steps=4).theta for m in (plain, maml)]
    np.testing.assert_array_equal(*adapted)


def test_each_switch_adds_its_parameters():
    shapes = {name: part.shape for name, part in learner(running_statistics=True).parameters.items()}
    assert shapes == {
        "theta": (NORMED.parameter_count,),
        "inner_lr": (2, len(NORMED.parameter_shapes)),
        "norms": (3, 22),
        "statistics": (3, 2, 11),
    }


def test_weights_of_the_steps_anneal_to_the_last():
    made = learner(inner_steps=4, multi_step_iterations=100)
    np.testing.assert_allclose(made.loss_weights(0), [0, 0.25, 0.25, 0.25, 0.25])
    np.testing.assert_allclose(made.loss_weights(60), [0, 0.1, 0.1, 0.1, 0.7])
    assert made.loss_weights(100) is None
    assert learner(multi_step_iterations=0).loss_weights(0) is None


def test_first_order_then_exact():
    batch = clusters().sample(3, seed=1)
    made = learner(first_order_iterations=2, multi_step_iterations=0, step_norms=False)
    results = [
        fm.meta_gradient(NORMED, made.theta, batch, made.rates, 2, order, device="numpy").gradient for order in (1, 2)
    ]
    for iteration, expected in ((0, results[0]), (1, results[0]), (2, results[1])):
        made._training = made.training._replace(step=iteration)
        np.testing.assert_array_equal(made.meta_gradients(batch)[1]["theta"], expected)


def test_cosine_annealing_by_default():
    assert learner().default_optimizer(50_000) == fm.Adam(fm.CosineSchedule(1e-3, 1e-5, steps=50_000))


def test_every_step_has_its_scales_and_shifts_and_later_ones_the_last():
    made = learner(iterations=6)
    rows = made.parameters["norms"]
    assert (rows[0] != rows[1]).any()
    assert (rows[1] != rows[2]).any()
    batch = clusters().sample(2, seed=3)
    for steps, row in ((0, 0), (1, 1), (2, 2), (5, 2)):
        phi = made.adapt(batch.x_support, batch.y_support, inner_steps=steps).theta
        views = [NORMED.views(phi)[name] for name in NAMES]
        np.testing.assert_array_equal(np.concatenate(views, axis=1), np.tile(rows[row], (2, 1)))


@pytest.mark.parametrize("batch_norm", ["transductive", "support", "running"])
def test_steps_taken_at_once_have_the_norms_and_rates_of_those_taken_one_by_one(batch_norm):
    made = learner(running_statistics=True, iterations=6)
    scores = made.evaluate(clusters(), episodes=4, inner_steps=(0, 1, 2, 5), batch_norm=batch_norm)
    batch = clusters().sample(2, seed=5)
    paths = list(made.descend(batch.x_support, batch.y_support, None, [0, 1, 2, 5], batch_norm))
    for (steps, score), phi in zip(scores.items(), paths, strict=True):
        alone = made.evaluate(clusters(), episodes=4, inner_steps=steps, batch_norm=batch_norm)
        np.testing.assert_array_equal(score.values, alone.values)
        once = made.adapt(batch.x_support, batch.y_support, inner_steps=steps, batch_norm=batch_norm).theta
        assert relative(phi, once) <= 1e-12


def test_running_statistics_are_those_of_each_step():
    """One iteration: a tenth of the way from 0 and 1 to the task means, support sets within and query sets after."""
    made, batch = learner(running_statistics=True), clusters().sample(4, seed=0)
    paths = [made.adapt(batch.x_support, batch.y_support, inner_steps=k).theta for k in range(3)]
    sets = [batch.x_support, batch.x_support, batch.x_query]
    found = [measure(NORMED, phi, x, "numpy").mean(axis=0) for phi, x in zip(paths, sets, strict=True)]
    before = made.parameters["statistics"]
    np.testing.assert_array_equal(before, np.tile(np.repeat([[0.0], [1.0]], 11, axis=1), (3, 1, 1)))
    after = learner(running_statistics=True, iterations=1).parameters["statistics"]
    assert relative(after, 0.9 * before + 0.1 * np.stack(found)) <= 1e-12


@pytest.mark.parametrize("step_norms", [True, False])
def test_running_statistics_are_used_in_the_inner_steps_and_for_predictions(step_norms):
    """By hand: every norm normalises with the statistics of its step, through which no gradient flows."""
    made = learner(running_statistics=True, step_norms=step_norms, iterations=5)
    batch = clusters().sample(1, seed=7)
    x, y, statistics = batch.x_support[0].astype(float), batch.y_support[0], made.parameters["statistics"]

    def forward(views, x, k):
        """Outputs, and what the layers got."""
        kept, h, at = [], x, 0
        for i in (1, 2):
            kept.append(h)
            h = h @ views[f"linear{i}.weight"] + views[f"linear{i}.bias"]
            part = slice(at, at + h.shape[1])
            at += h.shape[1]
            h = (h - statistics[k, 0, part]) / np.sqrt(statistics[k, 1, part] + 1e-5)
            kept.append(h)
            h = np.tanh(views[f"norm{i}.scale"] * h + views[f"norm{i}.shift"])
        return h @ views["linear3.weight"] + views["linear3.bias"], kept, h

    phi = made.theta.copy()
    for k in range(3):
        views = NORMED.views(phi)
        if step_norms:
            row = np.split(made.parameters["norms"][k], [6, 12, 17])
            for name, values in zip(NAMES, row, strict=True):
                views[name][...] = values
        if k == 2:
            break

        def loss(e, name, index, k=k, phi=phi):
            moved = phi.copy()
            NORMED.views(moved)[name][index] += e
            z = forward(NORMED.views(moved), x, k)[0]
            return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])

        slope = np.zeros_like(phi)
        for name, part in NORMED.views(slope).items():
            for index in np.ndindex(part.shape):
                part[index] = (loss(1e-5, name, index) - loss(-1e-5, name, index)) / 2e-5
        rates = np.repeat(made.rates[k], [part.size for part in views.values()])
        phi = phi - rates * slope
    expected = forward(NORMED.views(phi), batch.x_query[0], 2)[0]
    model = made.adapt(x, y, batch_norm="running")
    assert relative(model.outputs(batch.x_query[0]), expected) <= 1e-8
    np.testing.assert_allclose(model.outputs(batch.x_query[0, 2:3]), expected[2:3], rtol=1e-7)
    other = made.adapt(x, y).outputs(batch.x_query[0])
    assert relative(other, expected) > 1e-2


def test_scores_state_the_mode_and_learning_shows_in_all():
    tasks = clusters(queries=8)
    made = fm.MAMLPlusPlus(NORMED, 0.1, 3, running_statistics=True, multi_step_iterations=60, device="numpy")
    made.fit(tasks, 150, tasks_per_step=8, optimizer=fm.Adam(5e-3))
    for mode in ("transductive", "support", "running"):
        scores = made.evaluate(tasks, episodes=25, inner_steps=[0, 3, 6], batch_norm=mode)
        assert scores[3].batch_norm == mode
        assert scores[0].mean < 0.6
        assert scores[3].mean > 0.85, (mode, scores)
        assert scores[6].mean > 0.85
    assert made.evaluate(tasks, episodes=5).batch_norm == "transductive"


def test_running_statistics_are_saved(tmp_path):
    made = learner(running_statistics=True, iterations=3)
    made.save(tmp_path / "run.safetensors")
    loaded = fm.load(tmp_path / "run.safetensors", device="numpy")
    assert repr(loaded) == repr(made)
    tasks = clusters()
    one, two = (m.evaluate(tasks, episodes=6, batch_norm="running").values for m in (made, loaded))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fm.MAMLPlusPlus(fm.MLP((1, 1)), step_norms=True), "step_norms=True must come with a network"),
        (lambda: fm.MAMLPlusPlus(fm.MLP((1, 1)), running_statistics=True), "running_statistics=True must come with"),
        (lambda: fm.MAMLPlusPlus(NORMED, multi_step_iterations=-1), "multi_step_iterations=-1 must be at least 0"),
        (lambda: fm.MAMLPlusPlus(NORMED, first_order_iterations=-1), "first_order_iterations=-1 must be at least 0"),
        (
            lambda: fm.MAMLPlusPlus(NORMED, np.ones((2, 10))),
            r"\(2, 10\) must be a number or \(5, 10\)",
        ),
        (
            lambda: learner().evaluate(clusters(), 1, batch_norm="running"),
            '"running" must come with a learner',
        ),
        (
            lambda: fm.MAML(NORMED, device="numpy").fit(clusters(), 0).evaluate(clusters(), 1, batch_norm="running"),
            'batch_norm="running" must be one of "transductive", "support"',
        ),
    ],
)
def test_switches_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("net", [NORMED, fm.Conv4((16, 16, 1), 3, 3, "stride")], ids=["vectors", "images"])
def test_backends_agree_on_all_of_it(net):
    """Every switch on, in training and in each mode of evaluation."""
    x = np.random.default_rng(0).standard_normal((240, *net.input_shape)).astype(np.float32)
    tasks = fm.tasks.from_arrays(x, np.repeat(np.arange(12), 20), ways=3, shots=2, queries=4)
    batch, made = tasks.sample(2, seed=5), []
    for device in ("numpy", "cpu"):
        one = fm.MAMLPlusPlus(net, 0.1, 2, first_order_iterations=1, running_statistics=True, device=device)
        made.append(one.fit(tasks, 3, tasks_per_step=3, theta=net.init(0, "float64")))
    for name, values in made[0].parameters.items():
        assert relative(made[1].parameters[name], values) <= 1e-9, name
    made[1]._training = made[0].training
    for mode in ("transductive", "support", "running"):
        models = [one.adapt(batch.x_support, batch.y_support, inner_steps=3, batch_norm=mode) for one in made]
        assert relative(*(model.outputs(batch.x_query) for model in models)) <= 1e-10, mode
