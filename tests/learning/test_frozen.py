"""Batch norm frozen at the support set: by hand, one sample at a time, and the limit that the paper's mode tends to."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.networks.frozen_norms import frozen
from fastmeta_kernels.reference import network
from tests.cases import CASES
from tests.gradcheck import relative

NORMED = [case for case in CASES if any(isinstance(layer, fm.BatchNorm) for layer in case.network.layers)]
CONV = fm.Conv4((12, 12, 1), 4, 3)


def source(shape=(12, 12, 1), ways=3, shots=2):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, *shape))
    x = np.repeat(centres, 20, axis=0) + 0.3 * rng.standard_normal((240, *shape))
    return fm.tasks.from_arrays(x.astype(np.float32), np.repeat(np.arange(12), 20), ways, shots=shots, queries=4)


def trained(kind, net=CONV, device="numpy", **arguments):
    return kind(net, **arguments, device=device).fit(source(net.input_shape), 3, tasks_per_step=2)


@pytest.mark.parametrize("case", NORMED, ids=lambda case: case.name)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_samples_that_gave_the_statistics_come_out_as_before(case, device):
    net = case.network
    theta, batch = case.make()
    affine, phi = frozen(net, theta, batch.x_support, device)
    assert phi.shape == (case.tasks, net.parameter_count) == (case.tasks, affine.parameter_count)
    expected = network.forward(net.table, np.tile(theta, (case.tasks, 1)), batch.x_support)[-1]
    assert (
        relative(affine.predict(phi, batch.x_support, device), expected.reshape(case.tasks, case.support, -1)) <= 1e-11
    )
    one, own = frozen(net, theta, batch.x_support[0], device)
    assert one == affine
    assert relative(own, phi[0]) <= 1e-13


LEARNERS = {
    "MAML": lambda **o: trained(fm.MAML, inner_lr=0.05, inner_steps=2, **o),
    "ANIL": lambda **o: trained(fm.ANIL, inner_lr=0.05, inner_steps=2, **o),
    "MAML++": lambda **o: trained(fm.MAMLPlusPlus, inner_lr=0.05, inner_steps=2, **o),
    "Reptile": lambda **o: trained(fm.Reptile, inner_lr=0.05, inner_steps=2, inner_optimizer="sgd", **o),
    "iMAML": lambda **o: trained(fm.iMAML, inner_lr=0.05, inner_steps=3, **o),
    "ProtoNet": lambda **o: trained(fm.ProtoNet, net=fm.Conv4((12, 12, 1), 4, None), **o),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_one_at_a_time_has_the_bits_of_the_batch(name):
    learner = LEARNERS[name](device="cpu")
    task = source().sample(1, seed=9)
    x = np.concatenate([task.x_query[0]] * 4)
    model = learner.adapt(task.x_support[0], task.y_support[0], batch_norm="frozen")
    together = model.outputs(x)
    alone = np.concatenate([model.outputs(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(together, alone)
    assert relative(together, learner.adapt(task.x_support[0], task.y_support[0]).outputs(x)) > 1e-3


@pytest.mark.parametrize("name", LEARNERS)
def test_episodes_are_scored_so_and_tasks_are_apart(name):
    learner = LEARNERS[name]()
    score = learner.evaluate(source(), episodes=6, batch_norm="frozen")
    assert score.batch_norm == "frozen"
    assert score.stream == learner.evaluate(source(), episodes=6).stream
    for i in range(6):
        task = source().sample(1, seed=1, step=i)
        model = learner.adapt(task.x_support[0], task.y_support[0], batch_norm="frozen")
        assert np.isclose(score.values[i], (model.predict(task.x_query[0]) == task.y_query[0]).mean())
    batch = source().sample(3, seed=2)
    both = learner.adapt(batch.x_support, batch.y_support, batch_norm="frozen").outputs(batch.x_query)
    for t in range(3):
        one = learner.adapt(batch.x_support[t], batch.y_support[t], batch_norm="frozen").outputs(batch.x_query[t])
        assert relative(one, both[t]) <= 1e-5


@pytest.mark.parametrize("name", ["MAML", "MAML++", "ProtoNet"])
def test_backends_agree(name):
    learner, other = LEARNERS[name](), LEARNERS[name](device="cpu")
    wide = {key: values.astype(np.float64) for key, values in learner.parameters.items()}
    task = source().sample(2, seed=4)
    found = []
    for one in (learner, other):
        one._training = one.training._replace(parameters=wide)
        found.append(one.adapt(task.x_support, task.y_support, batch_norm="frozen").outputs(task.x_query))
    assert relative(*found) <= 1e-10


def test_support_tends_to_frozen_as_the_support_set_is_repeated():
    learner = trained(fm.MAML, net=fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Tanh(), fm.Linear(3)], 5), inner_lr=0.1)
    learner._training = learner.training._replace(parameters={"theta": learner.theta.astype(np.float64)})
    task = source((5,)).sample(1, seed=3)
    x, y = task.x_support[0], task.y_support[0]
    expected = learner.adapt(x, y, batch_norm="frozen").outputs(task.x_query[0])
    apart = []
    for times in (1, 10, 100):
        model = learner.adapt(np.tile(x, (times, 1)), np.tile(y, times), batch_norm="support")
        apart.append(relative(model.outputs(task.x_query[0]), expected))
    assert apart[1] < 0.3 * apart[0]
    assert apart[2] < 0.3 * apart[1] < 0.01


def test_who_has_no_such_mode_says_so():
    plain = fm.MAML(fm.MLP((5, 3)), device="numpy").fit(source((5,)), 0)
    with pytest.raises(ValueError, match=r'batch_norm="frozen" must be left out: MLP.* has no batch norm'):
        plain.evaluate(source((5,)), 1, batch_norm="frozen")
    protonet = LEARNERS["ProtoNet"]()
    with pytest.raises(ValueError, match='batch_norm="support" must be one of "transductive", "frozen"'):
        protonet.evaluate(source(), 1, batch_norm="support")
    transfer = fm.Transfer(fm.Conv4((12, 12, 1), 4, 12), "centroid", device="numpy")
    with pytest.raises(ValueError, match="Transfer has one mode only"):
        transfer.batch_norm_mode("frozen")
