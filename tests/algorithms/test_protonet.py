from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import fastmeta as fm
from tests.algorithms.learners import Fixed
from tests.gradcheck import derivative, relative

NET, MAP = fm.MLP((12, 16, 6), "tanh"), fm.MLP((4, 6))
NORMED = fm.Network([fm.Linear(8), fm.BatchNorm(), fm.Tanh(), fm.Linear(6)], (12,))


def clusters(ways=8, shots=2, queries=5, noise=1.0):
    """Classes that differ in 4 of 12 features; the others are noise, which an embedding learns to leave out."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.standard_normal((40, 12)) * (np.arange(12) < 4), 15, axis=0)
    x = centres + noise * rng.standard_normal((600, 12)) * np.where(np.arange(12) < 4, 0.3, 2.0)
    return fm.tasks.from_arrays(x.astype(np.float32), np.repeat(np.arange(40), 15), ways, shots, queries)


@pytest.fixture(params=["numpy", "cpu"])
def device(request):
    return request.param


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_learns_and_is_evaluated_with_other_ways(device, metric):
    learner = fm.ProtoNet(NET, metric, device=device)
    few = clusters(ways=3, shots=1, queries=10)
    before = learner.fit(clusters(), 0).evaluate(few, episodes=100).mean
    learner.fit(clusters(), 150, tasks_per_step=2, optimizer=fm.Adam(1e-2))
    score = learner.evaluate(few, episodes=100)
    assert score.mean > before + 0.1
    assert score.measure == "accuracy"
    assert score.batch_norm == ""


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("net", [NET, NORMED], ids=["plain", "batch norm"])
def test_meta_gradient_is_that_of_central_differences(device, net, metric):
    learner = fm.ProtoNet(net, metric, scale=3.0, device=device)
    batch = clusters(ways=3).sample(2, seed=3)
    theta = net.init(0, "float64")
    v = np.random.default_rng(0).standard_normal(theta.size)
    v /= np.linalg.norm(v)

    def loss(e):
        return learner.fit(clusters(), 0, theta=theta + e * v).meta_gradients(batch)[0]

    slope = learner.fit(clusters(), 0, theta=theta).meta_gradients(batch)[1]["theta"] @ v
    assert abs(slope - derivative(loss, 0.01)) <= 1e-7 * abs(slope)


def test_a_model_holds_prototypes(device):
    learner = fm.ProtoNet(NET, device=device).fit(clusters(), 5)
    batch = clusters(ways=4).sample(2, seed=1)
    model = learner.adapt(batch.x_support[0], batch.y_support[0])
    z = fm.predict(NET, learner.theta, batch.x_support[0], device=device)
    means = np.stack([z[batch.y_support[0] == k].mean(axis=0) for k in range(4)])
    assert relative(model.prototypes[0], means) <= 1e-6
    outputs = model.outputs(batch.x_query[0])
    assert outputs.shape == (20, 4)
    assert np.array_equal(model.predict(batch.x_query[0]), outputs.argmax(axis=1))
    assert model.probabilities(batch.x_query[0]).sum(axis=1) == pytest.approx(np.ones(20), rel=1e-6)
    both = learner.adapt(batch.x_support, batch.y_support).outputs(batch.x_query)
    assert relative(both[0], outputs) <= 1e-5
    assert relative(both, learner.query_outputs(batch)) <= 1e-5


def test_with_batch_norm_the_support_set_passes_along():
    learner = fm.ProtoNet(NORMED, device="numpy").fit(clusters(), 5)
    batch = clusters(ways=4).sample(1, seed=1)
    model = learner.adapt(batch.x_support[0], batch.y_support[0])
    assert relative(model.outputs(batch.x_query[0]), learner.query_outputs(batch)[0]) <= 1e-6
    assert learner.evaluate(clusters(), episodes=4).batch_norm == "transductive"


def test_is_saved_and_resumed_to_the_same_bits(tmp_path):
    path = tmp_path / "protonet.safetensors"
    whole = fm.ProtoNet(NET, "cosine", 5.0, device="numpy").fit(clusters(), 6, tasks_per_step=1)
    fm.ProtoNet(NET, "cosine", 5.0, device="numpy").fit(clusters(), 3, tasks_per_step=1, checkpoint=path)
    resumed = fm.ProtoNet(NET, "cosine", 5.0, device="numpy")
    resumed.fit(clusters(), 6, tasks_per_step=1, checkpoint=path, resume=True)
    assert resumed.theta.tobytes() == whole.theta.tobytes()
    loaded = fm.load(path, device="numpy")
    assert isinstance(loaded, fm.ProtoNet)
    assert (loaded.metric, loaded.scale) == ("cosine", 5.0)
    assert loaded.theta.tobytes() == whole.theta.tobytes()


class Gap:
    """Tasks without a support sample of class 1."""

    def sample(self, tasks, seed, step=0):
        b = clusters(ways=3).sample(tasks, seed, step)
        return fm.Batch(b.x_support, np.where(b.y_support == 1, 2, b.y_support), b.x_query, b.y_query)


def test_bad_input_is_named():
    learner = fm.ProtoNet(NET, device="numpy")
    with pytest.raises(ValueError, match="y_support has no sample of class 1 in task 0"):
        learner.fit(Gap(), 1)
    with pytest.raises(ValueError, match="needs tasks with integer labels"):
        fm.ProtoNet(fm.MLP((1, 4)), device="numpy").fit(fm.tasks.Sinusoid(), 1)
    with pytest.raises(ValueError, match='metric="l2" must be one of "euclidean", "cosine"'):
        fm.ProtoNet(NET, "l2")
    learner.fit(clusters(), 0)
    x, y = np.zeros((4, 12)), [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"y_support of shape \(3,\) must hold one label a sample: \(4,\)"):
        learner.adapt(x, y[:3])
    with pytest.raises(ValueError, match="has 3 features but this network takes 12"):
        learner.adapt(np.zeros((4, 3)), y)
    with pytest.raises(ValueError, match="x has 2 tasks but the model was adapted to 1"):
        learner.adapt(x, y).predict(np.zeros((2, 4, 12)))


@pytest.mark.parametrize("dtype", ["int32", "int16", "uint8", ">i8", ">i4"])
@pytest.mark.parametrize("queries", [9, 10])
def test_labels_of_any_integer_type(dtype, queries):
    rng = np.random.default_rng(0)
    x, x_query, attributes = (rng.standard_normal(shape) for shape in ((1, 10, 12), (1, queries, 12), (1, 5, 4)))
    y, y_query = np.tile(np.arange(5), 2)[None], np.arange(queries)[None] % 5
    makers = (
        lambda: fm.ProtoNet(NET, device="numpy"),
        lambda: fm.ZeroShot(NET, fm.MLP((4, 6)), device="numpy"),
        lambda: fm.SideInformation(NET, fm.MLP((4, 6)), device="numpy"),
    )
    batches = [fm.Batch(x, y.astype(t), x_query, y_query.astype(t), attributes=attributes) for t in ("int64", dtype)]
    for make in makers:
        learner = make().fit(Fixed(batches[0]), 0)
        (expected, slopes), (loss, found) = (learner.meta_gradients(batch) for batch in batches)
        assert loss == expected
        assert all(np.array_equal(found[name], slopes[name]) for name in slopes)


@pytest.mark.parametrize("wrong", [3, -1])
def test_query_classes_that_the_support_set_lacks_are_refused(wrong, device):
    few = clusters(ways=3)
    batch = few.sample(2, seed=1)
    y_query = batch.y_query.copy()
    y_query[1, -1] = wrong
    bad = replace(batch, y_query=y_query, attributes=np.zeros((2, 3, 4)))
    makers = fm.ProtoNet, partial(fm.ZeroShot, attribute_net=MAP), partial(fm.SideInformation, attribute_net=MAP)
    for make in makers:
        with pytest.raises(ValueError, match=rf"y_query has class {wrong}; the support set has classes 0 \.\. 2"):
            make(NET, device=device).fit(Fixed(bad), 1)
    with pytest.raises(ValueError, match=rf"y_query has class {wrong}"):
        fm.prototype_loss(batch.x_support, batch.y_support, batch.x_query, y_query, device=device)


def test_prototypes_of_unequal_shots_are_means_over_each_class_own(device):
    rng = np.random.default_rng(0)
    x, y, x_query = rng.standard_normal((7, 12)), np.array([2, 0, 0, 1, 0, 1, 0]), rng.standard_normal((4, 12))
    theta = NET.init(0, "float64")
    z, q = (fm.predict(NET, theta, a, device=device) for a in (x, x_query))
    means = np.stack([z[y == k].mean(axis=0) for k in range(3)])
    logits = -np.square(q[:, None] - means).sum(axis=2)
    model = fm.ProtoNet(NET, device=device).fit(clusters(), 0, theta=theta).adapt(x, y)
    assert relative(model.prototypes[0], means) <= 1e-14
    assert relative(model.outputs(x_query), logits) <= 1e-13
    batch = fm.Batch(x[None], y[None], x_query[None], np.zeros((1, 4), int))
    learner = fm.ProtoNet(NET, device=device).fit(Fixed(batch), 0, theta=theta)
    assert relative(learner.query_outputs(batch)[0], logits) <= 1e-13
    loss = np.mean(np.log(np.exp(logits - logits[:, :1]).sum(axis=1)))
    assert learner.meta_gradients(batch)[0] == pytest.approx(loss, rel=1e-13)
    assert fm.prototype_loss(z, y, q, np.zeros(4, int), device=device)[0] == pytest.approx(loss, rel=1e-13)
    side = fm.SideInformation(NET, MAP, device=device).fit(clusters(), 0, theta=theta)
    mapped = fm.predict(MAP, side.parameters["map"], np.eye(3, 4), device=device)
    assert relative(side.adapt(x, y, np.eye(3, 4)).prototypes[0], (means + mapped) / 2) <= 1e-14


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_distance_is_that_to_the_nearest_prototype(metric):
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=(6, 4)), np.arange(6) % 3, rng.normal(size=(5, 4))
    learner = fm.ProtoNet(fm.MLP((4, 4), scheme="identity"), metric, scale=3.0, device="numpy")
    model = learner.fit(fm.tasks.from_arrays(x, y, 3, 1, 1), 0, theta=learner.net.init(dtype="float64")).adapt(x, y)
    means = np.array([x[y == k].mean(axis=0) for k in range(3)])
    apart = new[:, None] - means
    expected = (apart**2).sum(axis=2)
    if metric == "cosine":
        lengths = np.linalg.norm(new, axis=1)[:, None] * np.linalg.norm(means, axis=1)
        expected = 1 - new @ means.T / lengths
    np.testing.assert_allclose(model.distance(new), expected.min(axis=1), rtol=1e-9)
    pair = learner.adapt(np.stack([x, x]), np.stack([y, y]))
    np.testing.assert_allclose(pair.distance(np.stack([new, new]))[1], expected.min(axis=1), rtol=1e-9)
