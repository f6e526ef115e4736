"""NumPy's numbers in a description become Python's where they enter: nothing fails when it is saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmeta as fm

WHOLE, REAL, TRUE, FALSE = np.int64, np.float32, np.bool_(True), np.bool_(False)
NETWORKS: dict[str, Callable[[], fm.Network]] = {
    "Linear": lambda: fm.Network([fm.Linear(WHOLE(8)), fm.ReLU(), fm.Linear(np.uint8(3))], (4,)),
    "Conv2d": lambda: fm.Network(
        [
            fm.Conv2d(WHOLE(2), WHOLE(3), np.int8(1), np.uint16(1), FALSE),
            fm.MaxPool2d(WHOLE(2)),
            fm.Flatten(),
            fm.Linear(3),
        ],
        np.array([4, 4, 1]),
    ),
    "an input shape": lambda: fm.Network([fm.Linear(3)], WHOLE(4)),
    "an input shape of several": lambda: fm.Network([fm.Linear(3)], (np.int32(4),)),
    "MLP": lambda: fm.MLP(np.array([4, 5, 3])),
    "MLP, counted": lambda: fm.MLP((np.zeros((1, 4)).shape[1], np.prod([1, 5]), np.arange(3).max() + 1)),
    "Conv4": lambda: fm.Conv4(np.array([16, 16, 1]), WHOLE(2), WHOLE(3), np.str_("pool")),
}
NET, NORMED = fm.MLP((4, 6, 3)), fm.Network([fm.Linear(5), fm.BatchNorm(), fm.Linear(6)], 4)
LEARNERS: dict[str, Callable[[], fm.Learner]] = {
    "MAML": lambda: fm.MAML(NET, REAL(0.1), WHOLE(2), TRUE, device=np.str_("numpy")),
    "MAML, rates": lambda: fm.MAML(NET, np.full(4, 0.1, np.float32), WHOLE(2), device="numpy"),
    "MAML, a rate in an array": lambda: fm.MAML(NET, np.array(0.1), device="numpy"),
    "ANIL": lambda: fm.ANIL(NET, REAL(0.1), WHOLE(2), FALSE, device="numpy"),
    "MetaSGD": lambda: fm.MetaSGD(NET, np.float16(0.1), WHOLE(1), device="numpy"),
    "MAML++": lambda: fm.MAMLPlusPlus(
        NORMED, REAL(0.1), WHOLE(2), TRUE, WHOLE(3), WHOLE(1), TRUE, TRUE, device="numpy"
    ),
    "Reptile": lambda: fm.Reptile(NET, REAL(0.1), WHOLE(2), WHOLE(3), np.str_("sgd"), device="numpy"),
    "iMAML": lambda: fm.iMAML(NET, REAL(0.1), WHOLE(2), REAL(2), WHOLE(3), REAL(0), np.str_("inner"), device="numpy"),
    "ProtoNet": lambda: fm.ProtoNet(NET, np.str_("cosine"), REAL(10), device="numpy"),
    "Transfer": lambda: fm.Transfer(NORMED, np.str_("linear"), WHOLE(8), TRUE, device="numpy"),
}
OPTIMIZERS = {
    "Adam": lambda: fm.Adam(REAL(1e-3), REAL(0.8), np.float64(0.9), REAL(1e-8), clip_norm=WHOLE(3), clip_value=REAL(2)),
    "SGD along a cosine": lambda: fm.SGD(fm.CosineSchedule(REAL(0.1), REAL(0), WHOLE(4)), REAL(0.5)),
    "SGD along a line": lambda: fm.SGD(fm.LinearSchedule(WHOLE(1), WHOLE(0), np.uint8(4))),
    "SGD in steps": lambda: fm.SGD(fm.StepSchedule(REAL(0.1), REAL(0.5), WHOLE(2))),
}


def tasks(net: fm.Network = NET) -> fm.tasks.LabelledTasks:
    x = np.random.default_rng(0).standard_normal((60, *net.input_shape)).astype(np.float32)
    return fm.tasks.from_arrays(x, np.arange(60) % 6, ways=WHOLE(3), shots=np.uint8(1), queries=(WHOLE(2), WHOLE(2)))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_can_be_saved_and_loaded(name: str, tmp_path: Path) -> None:
    net = NETWORKS[name]()
    assert fm.Network.from_dict(json.loads(json.dumps(net.to_dict()))) == net
    assert "np." not in f"{net} {net.layers} {net.input_shape}"
    learner = fm.MAML(net, device="numpy").fit(tasks(net), 1, tasks_per_step=2)
    learner.save(tmp_path / "mine.safetensors")
    again = fm.load(tmp_path / "mine.safetensors", device="numpy")
    assert again.net == net
    np.testing.assert_array_equal(again.theta, learner.theta)


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_can_be_saved_and_loaded(name: str, tmp_path: Path) -> None:
    learner = LEARNERS[name]().fit(tasks(), WHOLE(1), tasks_per_step=WHOLE(2), seed=WHOLE(3), checkpoint_every=WHOLE(5))
    assert "np." not in repr(learner)
    learner.save(tmp_path / "mine.safetensors")
    assert repr(fm.load(tmp_path / "mine.safetensors", device="numpy")) == repr(learner)
    learner.evaluate(tasks(), WHOLE(2), seed=WHOLE(1), tasks_per_step=WHOLE(2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_can_be_saved_and_resumed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    for iterations in (1, 2):
        learner = fm.MAML(NET, device="numpy").fit(
            tasks(), iterations, 2, OPTIMIZERS[name](), checkpoint=path, resume=iterations == 2
        )
    assert learner.training.step == 2
    assert "np." not in repr(OPTIMIZERS[name]())
    plain = json.loads(json.dumps(OPTIMIZERS[name]().to_dict()))
    assert plain == OPTIMIZERS[name]().to_dict()


@pytest.mark.parametrize(
    "source",
    [
        tasks(),
        fm.tasks.Sinusoid(WHOLE(3), WHOLE(4), (REAL(0.5), WHOLE(5)), (REAL(0), np.float64(1)), (WHOLE(-1), WHOLE(1))),
        fm.tasks.AttributeClasses(*(WHOLE(3),) * 5, REAL(0.5), REAL(1), WHOLE(0)),
        fm.tasks.from_groups(np.zeros((40, 2)), np.arange(40) % 2, np.arange(40) // 20, WHOLE(1), WHOLE(2)),
    ],
)
def test_tasks_hold_plain_numbers(source: Any) -> None:
    assert "np." not in repr(source)
    for value in (source.shots, source.queries):
        assert all(type(n) is int for n in (value if isinstance(value, tuple) else (value,)))


class Mine(fm.FOMAML):
    """An algorithm of the user's own, which keeps an argument as it came."""

    def __init__(self, net: fm.Network, sizes: Any = (), share: Any = 0.5, device: str = "cpu") -> None:
        super().__init__(net, 0.1, 1, device=device)
        self.sizes, self.share = sizes, share


def test_arguments_of_the_users_own_algorithms(tmp_path: Path) -> None:
    learner = Mine(NET, (WHOLE(3), [REAL(0.5)]), TRUE, device="numpy").fit(tasks(), 1)
    learner.save(tmp_path / "mine.safetensors")
    again = fm.load(tmp_path / "mine.safetensors", device="numpy")
    assert (again.sizes, again.share) == ([3, [0.5]], True)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fm.Linear(np.float64(8)), r"outputs=np.float64\(8.0\) must be a whole number"),
        (lambda: fm.Linear(TRUE), r"outputs=np.True_ must be a whole number"),
        (lambda: fm.Conv2d(4, bias="no"), 'bias="no" must be True or False'),
        (lambda: fm.MAML(NET, learn_inner_lr="false"), 'learn_inner_lr="false" must be True or False'),
        (lambda: fm.Conv4(channels=REAL(4)), r"channels=np.float32\(4.0\) must be a whole number"),
    ],
)
def test_other_kinds_are_refused_where_they_enter(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
