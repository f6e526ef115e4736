"""Gymnasium environments as worlds; skipped where Gymnasium or MuJoCo is not there."""

from __future__ import annotations

import numpy as np
import pytest

from fastmeta import rl

gymnasium = pytest.importorskip("gymnasium", reason="Gymnasium is not installed")


class _Reach(gymnasium.Env):
    """The reward is the action less a hidden number; ends after three steps."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    hidden = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.np_random.uniform(-1, 1, 2), {}

    def step(self, action):
        self.count += 1
        assert -1 <= action[0] <= 1
        return np.zeros(2), -abs(float(action[0]) - self.hidden), False, self.count == 3, {}


def _tasks(count, seed, step):
    return {"hidden": rl.stream(seed, step).uniform(-1, 1, count)}


def _set(env, task):
    env.hidden = float(task["hidden"])


def test_trajectories_are_the_environments_own():
    world = rl.Gymnasium(_Reach, _tasks, _set, horizon=5)
    assert (world.observations, world.actions, world.discrete) == (2, 1, False)
    maml = rl.MAML(rl.gaussian_policy(2, 1, (4,)), trajectories=3, device="numpy").fit(world, 2, 2)
    worlds = world.sample(2, 5)
    one, two = (maml.attempts(world, worlds, 1, 0.1, 3, 5, [0, 1]) for _ in range(2))
    assert all(np.array_equal(a.rewards, b.rewards) for a, b in zip(one, two, strict=True))
    assert (one[0].lengths == 3).all()
    actions = one[0].actions[..., :3, 0].clip(-1, 1)
    assert np.allclose(one[0].rewards[..., :3], -np.abs(actions - worlds["hidden"][:, None, None]), atol=1e-6)


def test_an_environment_that_ignores_its_task_warns():
    with pytest.warns(UserWarning, match="Two tasks give equal rewards"):
        rl.Gymnasium(_Reach, _tasks, lambda env, task: None, horizon=5)


def test_other_spaces_are_refused_by_name():
    class Other(_Reach):
        action_space = gymnasium.spaces.MultiDiscrete([2, 2])

    class Dicts(_Reach):
        observation_space = gymnasium.spaces.Dict({})

    for env, said in ((Other, "action_space=MultiDiscrete"), (Dicts, "observation_space=Dict")):
        with pytest.raises(TypeError, match=said):
            rl.Gymnasium(env, _tasks, _set, horizon=5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("goal", ["direction", "velocity"])
def test_half_cheetah(goal):
    pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    world = rl.HalfCheetah(goal, horizon=4)
    assert (world.observations, world.actions) == (20, 6)
    worlds = {"goal": np.array([1.0, -1.0 if goal == "direction" else 2.0])}
    rng = rl.Noise(0, [0, 0], 0, [7, 7])  # the same draws
    state = world.reset(worlds, 1, rng)
    assert np.array_equal(state[0], state[1])
    state, rewards, done = world.step(worlds, state, np.zeros((2, 1, 6)), rng)
    if goal == "direction":
        assert np.isclose(rewards[0, 0], -rewards[1, 0])
    else:
        assert np.isclose(rewards[0, 0] - rewards[1, 0], 1.0, atol=0.5)
    assert not done.any()
