"""What trajectories refuse."""

from __future__ import annotations

import numpy as np
import pytest

from fastmeta import rl


def _arrays(**changed):
    arrays = {
        "observations": np.zeros((2, 3, 4, 2)),
        "actions": np.zeros((2, 3, 4, 1)),
        "rewards": np.zeros((2, 3, 4)),
        "lengths": np.full((2, 3), 4),
    }
    return arrays | changed


def _spoiled(name, place, value):
    values = _arrays()[name].copy()
    values[place] = value
    return {name: values}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (_spoiled("rewards", (1, 2, 3), np.nan), "rewards must be finite; one of task 1, trajectory 2, step 3"),
        (_spoiled("observations", (0, 1, 2, 0), np.inf), "observations must be finite; one of task 0, trajectory 1"),
        (_spoiled("lengths", (1, 1), 0), "lengths=0 must be 1 .. 4"),
        (_spoiled("lengths", (1, 1), 5), "lengths=5 must be 1 .. 4"),
        ({"actions": np.zeros((2, 3, 4))}, "actions of shape"),
        ({"actions": np.zeros((2, 3, 4, 1), int)}, "actions of shape"),
        ({"observations": np.zeros((2, 3, 4))}, "observations of shape"),
        ({"log_probs": np.zeros((2, 3))}, "log_probs of shape"),
        ({"rewards": np.zeros((2, 0, 4))}, "rewards of shape"),
    ],
)
def test_bad_trajectories_are_refused(changed, said):
    with pytest.raises((ValueError, TypeError), match=said):
        rl.Trajectories(**_arrays(**changed))


def test_what_lies_behind_the_end_does_not_count():
    rewards = np.ones((2, 3, 4))
    rewards[0, 0, 2:] = np.nan
    lengths = np.full((2, 3), 4)
    lengths[0, 0] = 2
    data = rl.Trajectories(**_arrays(rewards=rewards, lengths=lengths))
    assert data.returns[0].tolist() == [2, 4, 4]
    assert data.steps == 22
    assert data.mask.sum() == 22


def test_one_task_needs_no_leading_axis():
    data = rl.Trajectories(np.zeros((3, 4, 2)), np.zeros((3, 4), int), np.ones((3, 4)))
    assert data.rewards.shape == (1, 3, 4)
    assert data.lengths.tolist() == [[4, 4, 4]]
