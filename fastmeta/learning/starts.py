"""What a fit begins with: first parameters, or all that a learner, a checkpoint or a run has learned before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastmeta import checks
from fastmeta.learning import checkpoint as checkpoints
from fastmeta.learning.learned import Learned
from fastmeta.networks.network import Network
from fastmeta_kernels import host
from fastmeta_kernels.contract import Array

Start = Learned | Mapping[str, Array] | str | os.PathLike[str]


def check(theta: object, start: object, resume: bool) -> None:
    """ValueError where two places are named to begin from."""
    if theta is not None and (resume or start is not None):
        other, source = ("resume=True", "the checkpoint's") if resume else ("start", "those of start")
        raise ValueError(f"theta must be left out with {other}: training goes on from {source}.")


def first(learner: Learned, seed: int, theta: object, start: Start | None) -> dict[str, Array]:
    """What is learned before the first iteration, by name; raises where the learner's settings do not fit it."""
    earlier = {} if start is None else taken(learner, start)
    return learner.initial_parameters(learner.first_theta(seed, earlier.get("theta", theta)), seed) | earlier


def taken(learner: Learned, start: Start) -> dict[str, Array]:
    """A copy of everything that `start` has learned, by name, as `learner` learns it.

    start: a learner, a checkpoint file, the folder of a run of the command line, or parameters by name. Raises
    ValueError where it is of another algorithm or network or has learned arrays of other names or shapes.
    """
    if isinstance(start, Learned):
        what, kind, net, parameters = f"{start}", type(start).__name__, start.net, start.parameters
    elif isinstance(start, Mapping):
        what, kind, net, parameters = "parameters", type(learner).__name__, learner.net, dict(start)
    elif isinstance(start, str | os.PathLike):
        file = Path(start) / "checkpoint.safetensors" if os.path.isdir(start) else Path(start)
        saved = checkpoints.read(file)
        what, kind, net = f'"{start}"', saved.algorithm, saved.net
        parameters = saved.training.parameters if saved.best is None else saved.best.parameters
    else:
        raise TypeError(f"start={start!r} must be a learner, the path of its checkpoint or run, or its parameters.")
    _check_same(learner, what, kind, net)
    found = {name: np.array(host.on_host(values)) for name, values in parameters.items()}
    _check_arrays(learner, what, found)
    return found


def _check_same(learner: Learned, what: str, kind: str, net: Network) -> None:
    if kind != type(learner).__name__:
        raise ValueError(
            f"start={what} must be of {type(learner).__name__}, not {kind}. Give its network's parameters alone: "
            "theta=fm.load(path).theta."
        )
    if net != learner.net:
        raise ValueError(f"start={what} must have the network {learner.net}, not {net}. Build the learner with that.")


def _check_arrays(learner: Learned, what: str, found: dict[str, Array]) -> None:
    for name, values in found.items():
        if values.dtype not in (np.float32, np.float64):
            raise TypeError(f"start={what} has {name} of dtype {values.dtype}, which must be float32 or float64.")
        checks.finite(f"start's {name}", values)
    count = learner.net.parameter_count
    theta = found.get("theta", np.zeros(0))
    wanted = learner.initial_parameters(theta if theta.shape == (count,) else learner.net.init(0))
    theirs, ours = ({name: values.shape for name, values in arrays.items()} for arrays in (found, wanted))
    if odd := [name for name in theirs | ours if theirs.get(name) != ours.get(name)]:
        listed = ", ".join(f"{n} is {theirs.get(n, 'absent')}, not {ours.get(n, 'absent')}" for n in odd)
        raise ValueError(
            f"start={what} must have learned what {learner} learns: {listed}. Build the learner with the settings of "
            "the earlier one, or give theta= alone."
        )
