"""Worlds: pure functions of their seeds, rewards as their papers say, oracles as computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fastmeta import rl

WORLDS = {
    "navigation": rl.Navigation2D(horizon=5),
    "corners": rl.Navigation2D(horizon=5, goals="corners", reward="sparse"),
    "bandit": rl.Bandit(3),
    "gaussian bandit": rl.Bandit(3, "gaussian"),
    "mdp": rl.TabularMDP(4, 3, 5),
}


def _walk(world, tasks, seed=0, keep=slice(None)):
    worlds = {name: values[keep] for name, values in world.sample(tasks, seed).items()}
    places = list(range(tasks))[keep]
    rng = rl.Noise(seed, [0] * len(places), 0, places)
    state, rewards = world.reset(worlds, 2, rng), []
    for t in range(world.horizon):
        shape = (len(places), 2)
        given = np.full(shape, t % world.actions) if world.discrete else np.full((*shape, world.actions), 0.5)
        assert world.observe(worlds, state).shape == (*shape, world.observations)
        state, earned, done = world.step(worlds, state, given, rng)
        assert earned.shape == done.shape == shape
        rewards.append(earned)
    return np.stack(rewards)


@pytest.mark.parametrize("name", WORLDS)
def test_trajectories_are_functions_of_the_seed_and_no_task_touches_another(name):
    world = WORLDS[name]
    whole = _walk(world, 4)
    assert np.array_equal(whole, _walk(world, 4))
    assert np.array_equal(whole[:, 2:], _walk(world, 4, keep=slice(2, None)))
    first, second = (next(iter(world.sample(4, 0, step).values())) for step in (0, 1))
    assert not np.array_equal(first, second)


def test_navigation_moves_by_a_tenth_of_the_action_and_ends_at_the_goal():
    world, rng = rl.Navigation2D(), rl.Noise(0, [0], 0)
    worlds = {"goal": np.array([[0.1, -0.05]])}
    state = world.reset(worlds, 2, rng)
    actions = np.array([[[1.0, -0.5], [30.0, 0.0]]])
    state, rewards, done = world.step(worlds, state, actions, rng)
    assert np.allclose(state, [[[0.1, -0.05], [0.1, 0.0]]])
    assert np.allclose(rewards, [[0, -0.05]])
    assert done.tolist() == [[True, False]]


def test_sparse_corners_pay_progress_in_the_goal_s_quarter_only():
    world, rng = rl.Navigation2D(goals="corners", reward="sparse"), rl.Noise(0, [0], 0)
    worlds = {"goal": np.array([[2.0, 2.0]])}
    assert set(np.abs(world.sample(20, 0)["goal"]).ravel()) == {2.0}
    state = np.array([[[0.1, 0.1], [1.0, 1.0], [-1.0, 1.0]]])
    _, rewards, done = world.step(worlds, state, np.full((1, 3, 2), 1.0), rng)
    before, after = np.hypot(1, 1), np.hypot(0.9, 0.9)
    assert np.allclose(rewards, [[0, before - after, 0]])
    assert not done.any()


@pytest.mark.parametrize(("arms", "pulls", "wanted"), [(5, 10, 0.721), (5, 100, 0.818), (10, 100, 0.871)])
def test_bandit_oracle(arms, pulls, wanted):
    assert abs(rl.Bandit(arms).oracle(pulls) - wanted) < 0.006  # four standard errors of 20,000 draws


def test_mdp_oracles():
    world = rl.TabularMDP()
    worlds = world.sample(300, 0)
    assert abs(world.random_return(worlds).mean() - 10.0) < 0.5
    assert abs(world.optimal_return(worlds).mean() - 21.7) < 0.5
    assert (world.optimal_return(worlds) > world.random_return(worlds)).all()
    alone = {"transitions": np.ones((1, 1, 2, 1)), "rewards": np.array([[[1.0, 3.0]]])}
    assert rl.TabularMDP(1, 2, 7).optimal_return(alone)[0] == 21
    assert rl.TabularMDP(1, 2, 7).random_return(alone)[0] == 14


def test_informed_sees_the_task():
    world = rl.Informed(rl.Navigation2D(horizon=3))
    assert world.observations == 4
    worlds, rng = world.sample(3, 0), rl.Noise(0, [0] * 3, 0)
    seen = world.observe(worlds, world.reset(worlds, 2, rng))
    assert np.array_equal(seen[:, 1, 2:], worlds["goal"])
