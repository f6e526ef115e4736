"""Similarity, head orders, loss surface and rounding: each where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.lab.representations import linear_cka, mean_cca

RNG = np.random.default_rng(0)


def centred(*shape: int) -> np.ndarray:
    values = RNG.standard_normal(shape)
    return values - values.mean(axis=0)


def test_cka_ignores_rotation_and_scale_and_cca_any_linear_map():
    x = centred(60, 5)
    rotation = np.linalg.qr(RNG.standard_normal((5, 5)))[0]
    assert linear_cka(x, 3 * x @ rotation) == pytest.approx(1)
    stretched = x @ np.diag([1.0, 1, 1, 1, 30])
    assert linear_cka(x, stretched) < 0.7
    assert mean_cca(x, stretched) == pytest.approx(1)
    assert linear_cka(x, centred(60, 5)) < 0.3
    assert np.isnan(linear_cka(x, np.zeros((60, 5))))
    assert np.isnan(mean_cca(centred(8, 5), centred(8, 5)))
    expected = np.linalg.norm(stretched.T @ x) ** 2
    expected /= np.linalg.norm(x.T @ x) * np.linalg.norm(stretched.T @ stretched)
    assert linear_cka(x, stretched) == pytest.approx(expected)


def test_only_the_layers_behind_a_moved_one_differ(tmp_path):
    pytest.importorskip("matplotlib")
    net = fm.Conv4((12, 12, 1), 4, 3)
    theta = net.init(0, "float64")
    phi = np.tile(theta, (2, 1))
    phi[:, slice(*net.head)] += RNG.standard_normal((2, net.head[1] - net.head[0]))
    found = fm.lab.similarity(net, theta, phi, RNG.standard_normal((2, 20, 12, 12, 1)))
    assert found.layers[0] == "1 Conv2d"
    np.testing.assert_allclose(found.cka[:-1], 1)
    assert found.cka[-1] < 0.99
    assert len(found.table().splitlines()) == 1 + len(net.layers)
    found.plot(tmp_path / "similarity.png")
    assert (tmp_path / "similarity.png").stat().st_size > 5_000


def blobs(ways: int = 3) -> fm.tasks.LabelledTasks:
    labels = np.repeat(np.arange(10), 12)
    x = RNG.normal(size=(10, 4))[labels] + 0.7 * RNG.normal(size=(120, 4))
    return fm.tasks.from_arrays(x, labels, ways=ways, shots=2, queries=5)


def test_head_orders_are_tasks_with_other_labels():
    tasks = blobs()
    maml = fm.MAML(fm.MLP((4, 8, 3)), 0.3, device="numpy").fit(tasks, 20)
    found = fm.lab.permutations(maml, tasks, 5)
    assert found.accuracy.shape == (5, 6)
    assert found.worst <= found.mean <= found.best
    assert found.fixed[0] <= found.mean <= found.fixed[1]
    episode = tasks.sample(1, seed=1, step=3)
    order = found.orders[4]
    model = maml.adapt(episode.x_support[0], order[episode.y_support[0]])
    assert found.accuracy[3, 4] == (model.predict(episode.x_query[0]) == order[episode.y_query[0]]).mean()
    plain = maml.evaluate(tasks, 5).values
    np.testing.assert_array_equal(found.accuracy[:, 0], plain)  # the first order leaves all as it is


def test_padded_queries_do_not_count():
    tasks = blobs()

    class Padded:
        """The same, with a query sample of another class behind each episode that weighs nothing."""

        def sample(self, count, seed, step=0):
            own = tasks.sample(count, seed=seed, step=step)
            x, y = (np.concatenate([a, a[:, :1] * 0 + i], axis=1) for i, a in ((9, own.x_query), (1, own.y_query)))
            weights = (np.arange(y.shape[1]) < own.y_query.shape[1]) * np.ones((count, 1))
            return fm.Batch(own.x_support, own.y_support, x, y, query_weights=weights)

    maml = fm.MAML(fm.MLP((4, 8, 3)), 0.3, device="numpy").fit(tasks, 20)
    plain, padded = (fm.lab.permutations(maml, source, 4).accuracy for source in (tasks, Padded()))
    np.testing.assert_allclose(padded, plain, rtol=1e-12)


def test_a_learner_without_rows_has_no_spread():
    tasks = blobs()
    found = fm.lab.permutations(fm.ProtoNet(fm.MLP((4, 8, 6))).fit(tasks, 5), tasks, 5)
    assert found.worst == pytest.approx(found.best)


def test_many_ways_are_sampled_and_wrong_orders_refused():
    tasks = blobs(ways=6)
    protonet = fm.ProtoNet(fm.MLP((4, 8, 6))).fit(tasks, 1)
    found = fm.lab.permutations(protonet, tasks, 1)
    assert found.orders.shape == (120, 6)
    with pytest.raises(ValueError, match=r"orders must be rows that hold each of 0 \.\. 5 once"):
        fm.lab.permutations(protonet, tasks, 1, [[0, 1, 2, 3, 4, 4]])
    sine = fm.tasks.Sinusoid()
    with pytest.raises(TypeError, match="tasks must have labels"):
        fm.lab.permutations(fm.MAML(fm.MLP((1, 4, 1)), 0.01).fit(sine, 1), sine, 1)


def test_the_surface_along_the_meta_gradient(tmp_path):
    pytest.importorskip("matplotlib")
    net, batch = fm.MLP((1, 8, 1), "tanh"), fm.tasks.Sinusoid().sample(3, seed=0)
    theta = net.init(0, "float64")
    result = fm.meta_gradient(net, theta, batch, 0.05, 2)
    u, v = result.gradient, RNG.standard_normal(theta.size)
    found = fm.lab.landscape(net, theta, batch, u, v, (-1e-4, 0, 1e-4), (0, 0.1), 0.05, 2)
    assert found.losses[1, 0] == pytest.approx(result.loss, rel=1e-12)
    slope = (found.losses[2, 0] - found.losses[0, 0]) / 2e-4
    assert slope == pytest.approx(u @ u, rel=1e-5)
    moved = fm.meta_gradient(net, theta + 1e-4 * u + 0.1 * v, batch, 0.05, 2).loss
    assert found.losses[2, 1] == pytest.approx(moved, rel=1e-12)
    assert len(found.table().splitlines()) == 4
    found.plot(tmp_path / "plane.png")
    line = fm.lab.landscape(net, theta, batch, 1e200 * v, a=(0, 1), inner_lr=0.05)
    assert line.losses.shape == (2, 1)
    assert np.isinf(line.losses[1, 0])
    line.plot(tmp_path / "line.png")
    assert all((tmp_path / name).stat().st_size > 5_000 for name in ("plane.png", "line.png"))
    huber = fm.lab.landscape(net, theta, batch, u, a=0, inner_lr=0.05, inner_steps=2, loss=fm.Huber(0.2))
    exact = fm.meta_gradient(net, theta, batch, 0.05, 2, loss=fm.Huber(0.2)).loss
    assert huber.losses[0, 0] == pytest.approx(exact, rel=1e-12)
    with pytest.raises(ValueError, match="b must come with v"):
        fm.lab.landscape(net, theta, batch, u, b=(0, 1))


def test_rounding_grows_with_the_steps(tmp_path):
    pytest.importorskip("matplotlib")
    net, batch = fm.MLP((1, 40, 40, 1), "tanh"), fm.tasks.Sinusoid().sample(5, seed=0)
    found = fm.lab.precision(net, net.init(0), batch, 0.01, (0, 1, 20))
    assert (found.gradient < 1e-5).all()
    assert found.gradient[0] > 0
    assert (found.kinks == 0).all()  # tanh has none
    assert len(found.table().splitlines()) == 4
    found.plot(tmp_path / "rounding.png")
    huber = fm.lab.precision(net, net.init(0), batch, 0.01, (1,), loss=fm.Huber(0.2))
    assert 0 < huber.gradient[0] < 1e-5
    assert huber.loss[0] != found.loss[1]
    chaotic = fm.lab.precision(net, net.init(0), batch, 0.05, (1, 50))
    assert chaotic.gradient[1] > 100 * chaotic.gradient[0]


def test_differing_kinks_are_counted():
    net = fm.MLP((1, 40, 1))
    x = np.linspace(-1, 1, 41)[None, :, None]
    theta = net.init(0)
    batch = fm.Batch(x, np.sin(3 * x), x, np.sin(3 * x))
    assert fm.lab.precision(net, theta, batch, 0.3, (60,)).kinks[0] >= 0
