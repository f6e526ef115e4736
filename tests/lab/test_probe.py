"""A probe measures what the instruments measure, and leaves the training's bits alone."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm

SINE = fm.tasks.Sinusoid()


def learner(**arguments) -> fm.MAML:
    return fm.MAML(fm.MLP((1, 8, 1), "tanh"), inner_lr=0.02, inner_steps=3, **arguments)


def test_it_measures_what_the_instruments_say():
    maml = learner()
    probe = fm.lab.Probe(maml, SINE, every=10, tasks_per_probe=3)
    maml.fit(SINE, 30, callback=probe)
    assert [record["iteration"] for record in probe.records] == [1, 10, 20, 30]
    record, batch, setting = probe.records[-1], SINE.sample(3, seed=1), (0.02, 3)
    exact = fm.meta_gradient(maml.net, maml.theta, batch, *setting).gradient
    first = fm.meta_gradient(maml.net, maml.theta, batch, *setting, order=1).gradient
    assert record["norm ratio"] == pytest.approx(np.linalg.norm(first) / np.linalg.norm(exact), rel=1e-4)
    assert record["cosine"] == pytest.approx(first @ exact / np.linalg.norm(first) / np.linalg.norm(exact), rel=1e-4)
    assert record["loss after"] == pytest.approx(fm.meta_gradient(maml.net, maml.theta, batch, *setting).loss, rel=1e-4)
    sharp = fm.lab.inner_spectrum(maml.net, maml.theta, batch, *setting, products=8).largest
    assert record["largest sharpness"] == pytest.approx(sharp.max(), rel=1e-4)
    assert record["loss"] == maml.history["loss"][-1]


@pytest.mark.parametrize("learn", [False, True])
def test_training_has_the_same_bits_and_resumes_to_them(tmp_path, learn):
    plain = learner(learn_inner_lr=learn).fit(SINE, 25)
    probed = learner(learn_inner_lr=learn)
    probed.fit(SINE, 25, callback=fm.lab.Probe(probed, SINE, every=5))
    np.testing.assert_array_equal(probed.theta, plain.theta)
    path = tmp_path / "half.safetensors"
    half = learner(learn_inner_lr=learn)
    half.fit(SINE, 12, checkpoint=path, callback=fm.lab.Probe(half, SINE, every=5))
    again = learner(learn_inner_lr=learn)
    probe = fm.lab.Probe(again, SINE, every=5)
    again.fit(SINE, 25, checkpoint=path, resume=True, callback=probe)
    np.testing.assert_array_equal(again.theta, plain.theta)
    assert [record["iteration"] for record in probe.records] == [15, 20, 25]


def test_only_what_is_asked_for(tmp_path):
    pytest.importorskip("matplotlib")
    maml = learner()
    probe = fm.lab.Probe(maml, SINE, every=2, what=("adaptation",))
    with pytest.raises(ValueError, match="nothing has been probed yet"):
        probe.plot(tmp_path / "probe.png")
    maml.fit(SINE, 4, callback=probe)
    assert list(probe.records[0]) == ["iteration", "loss", "loss before", "loss after", "seconds"]
    assert len(probe.table().splitlines()) == 4
    probe.plot(tmp_path / "probe.png")
    assert (tmp_path / "probe.png").stat().st_size > 5_000


def test_its_losses_are_the_learners():
    huber = fm.Huber(0.3)
    maml = learner(loss=huber)
    probe = fm.lab.Probe(maml, SINE, every=10, tasks_per_probe=3)
    maml.fit(SINE, 10, callback=probe)
    record, batch, setting = probe.records[-1], SINE.sample(3, seed=1), (0.02, 3)
    exact, first = (
        fm.meta_gradient(maml.net, maml.theta, batch, *setting, order, loss=huber).gradient for order in (2, 1)
    )
    assert record["cosine"] == pytest.approx(first @ exact / np.linalg.norm(first) / np.linalg.norm(exact), rel=1e-4)
    before, after = (fm.meta_gradient(maml.net, maml.theta, batch, 0.02, s, loss=huber).loss for s in (0, 3))
    assert (record["loss before"], record["loss after"]) == pytest.approx((before, after), rel=1e-4)
    sharp = fm.lab.inner_spectrum(maml.net, maml.theta, batch, *setting, products=8, loss=huber).largest
    assert record["sharpness after"] == pytest.approx(np.median(sharp[-1]), rel=1e-4)


def test_what_is_asked_for_alone_is_what_all_together_say():
    maml = learner().fit(SINE, 5)
    whole = fm.lab.Probe(maml, SINE).measure()
    for what in ("cosine", "sharpness", "snr", "adaptation"):
        for name, value in fm.lab.Probe(maml, SINE, what=(what,)).measure().items():
            assert value == pytest.approx(whole[name], rel=1e-5), name


@pytest.mark.parametrize(
    "learner",
    [
        fm.Reptile(fm.MLP((1, 8, 1))),
        fm.iMAML(fm.MLP((1, 8, 1))),
        fm.MAMLPlusPlus(fm.Conv4(channels=2)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_learner_of_other_steps_is_refused(learner):
    with pytest.raises(TypeError, match="must take plain gradient steps"):
        fm.lab.Probe(learner, SINE)
    with pytest.raises(TypeError, match="must take plain gradient steps"):
        fm.lab.report(learner, SINE)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match='query_batch_norm="frozen" is not what the instruments have'):
        fm.lab.Probe(fm.MAML(fm.Conv4(channels=2), query_batch_norm="frozen"), SINE)
    with pytest.raises(TypeError, match="must adapt by gradient steps"):
        fm.lab.Probe(fm.ProtoNet(fm.MLP((1, 8, 4))), SINE)
    with pytest.raises(ValueError, match='what="sharp" must be one of'):
        fm.lab.Probe(learner(), SINE, what=("sharp",))
