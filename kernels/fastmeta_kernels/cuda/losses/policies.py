"""Jobs of the losses of policies and of the Fisher metric of their outputs; see policies.cuh."""

from __future__ import annotations

from typing import Any

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Loss
from fastmeta_kernels.cuda.layout.network import ActivationSet, Layout, TaskData
from fastmeta_kernels.cuda.layout.recording import Recording, struct


def record(recording: Recording, network: Layout, data: TaskData, tangent: bool, **members: Any) -> None:
    """The loss and the last delta, or the tangent of the last delta."""
    assert data.loss is not None
    policy, surrogate = _names(data.loss)
    function = f"{policy}_divergence" if surrogate == "kl" else f"{policy}_loss"
    if tangent:
        function = "categorical_metric" if function == "categorical_divergence" else f"{function}_tangent"
    _job(recording, network, data, function, **members)


def metric(recording: Recording, network: Layout, data: TaskData, run: ActivationSet, dot: ActivationSet) -> None:
    """The last delta is the metric times the tangent of the outputs."""
    assert data.loss is not None
    policy, _ = _names(data.loss)
    members = {"z": run.values[-1], "z_dot": dot.values[-1], "dz": run.deltas[-1]}
    _job(recording, network, data, f"{policy}_metric", **members)


def targets(loss: Loss, outputs: int) -> tuple[bool, int]:
    """Whether they are integer actions, and values of a sample's: old outputs where it is a divergence."""
    policy, surrogate = _names(loss)
    if surrogate == "kl":
        return False, outputs
    return policy == "categorical", 1 if policy == "categorical" else outputs // 2


def has_ratio(loss: Loss) -> bool:
    """Whether it takes log-probabilities of when actions were drawn."""
    return _names(loss)[1] in ("ratio", "clip")


def _names(loss: Loss) -> tuple[str, str]:
    policy, surrogate, _ = loss.constants
    return lt.POLICIES[int(policy)], lt.SURROGATES[int(surrogate)]


def _job(recording: Recording, network: Layout, data: TaskData, function: str, **members: Any) -> None:
    assert data.loss is not None
    _, surrogate, clip = data.loss.constants
    arrays = {"labels": data.labels, "targets": data.targets, "weights": data.weights, "log_probs": data.log_probs}
    sizes = {"samples": data.samples, "outputs": network.outputs, "surrogate": int(surrogate)}
    job = struct("PolicyLoss", share=1 / data.samples, constant=clip, **arrays, **sizes, **members)
    recording.job(f"{function}<T>", 1, job)
