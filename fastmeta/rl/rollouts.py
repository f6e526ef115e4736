"""Rollouts: policies act in worlds, all trajectories of all tasks at once."""

from __future__ import annotations

import numpy as np

from fastmeta import device
from fastmeta.floating import quiet
from fastmeta.networks.network import Network
from fastmeta.rl import policies
from fastmeta.rl.trajectories import Trajectories
from fastmeta.rl.worlds.world import Noise, World, Worlds
from fastmeta_kernels.contract import Array


@quiet
def rollout(net: Network, theta: Array, world: World, worlds: Worlds, count: int, rng: Noise) -> Trajectories:
    """`count` trajectories a task by policies theta (T, P), which act with the NumPy backend: its calls are short.

    The same bits for the same arguments and state of `rng`. Raises ValueError where the world's arrays do not fit.
    """
    policy, tasks, dtype = policies.kind(net), len(theta), theta.dtype
    act = device.backend("numpy").predict
    state = world.reset(worlds, count, rng)
    lead = (tasks, count, world.horizon)
    seen, rewards = np.zeros((*lead, world.observations), dtype), np.zeros(lead)
    chosen = np.zeros(lead, np.int64) if world.discrete else np.zeros((*lead, world.actions), dtype)
    given, lengths = np.zeros((*lead, net.outputs), dtype), np.zeros((tasks, count), np.int64)
    alive = np.ones((tasks, count), bool)
    for t in range(world.horizon):
        now = _fitting("observations", world.observe(worlds, state), (tasks, count, world.observations), t)
        outputs = act(net.table, theta, np.ascontiguousarray(now, dtype))
        policies.check_spread(policy, outputs)
        actions = policies.drawn(policy, outputs, rng).astype(chosen.dtype)
        seen[:, :, t], given[:, :, t], chosen[:, :, t] = now, outputs, actions
        state, earned, done = world.step(worlds, state, actions, rng)
        rewards[:, :, t] = _fitting("rewards", earned, (tasks, count), t) * alive
        lengths += alive
        alive = alive & ~_fitting("done", done, (tasks, count), t).astype(bool)
        if not alive.any():
            break
    return Trajectories(seen, chosen, rewards, lengths, policies.log_probs(policy, given, chosen))


def check_fits(net: Network, world: World) -> None:
    """Raise where a policy does not take the world's observations or give its actions."""
    if not isinstance(world, World):
        raise TypeError(f"tasks={world!r} must be a world, such as fm.rl.Navigation2D(). Subclass fm.rl.World.")
    kind = policies.kind(net)
    if world.discrete != (kind == "categorical"):
        wanted = "categorical" if world.discrete else "gaussian"
        raise TypeError(
            f"net={net} must be a {wanted} policy for the actions of {type(world).__name__}. Use "
            f"fm.rl.{wanted}_policy({world.observations}, {world.actions})."
        )
    sizes = (*net.input_shape, policies.width(net))
    if sizes != (world.observations, world.actions):
        raise ValueError(
            f"net={net} must take {world.observations} observations and give {world.actions} actions for "
            f"{type(world).__name__}, not {sizes}. Use fm.rl.{kind}_policy({world.observations}, {world.actions})."
        )


def _fitting(name: str, given: Array, shape: tuple[int, ...], step: int) -> Array:
    found = np.asarray(given)
    if found.shape != shape or found.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} of shape {found.shape} and dtype {found.dtype} at step {step} must be numbers of shape {shape}. "
            "Return such from the world's reset, step and observe."
        )
    return found
