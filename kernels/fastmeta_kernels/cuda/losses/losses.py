"""Jobs of a set's loss and of where its backward pass starts; see losses.cuh."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Loss
from fastmeta_kernels.cuda.layout.network import ActivationSet, Layout, TaskData
from fastmeta_kernels.cuda.layout.recording import NONE, Batched, Recording, struct
from fastmeta_kernels.cuda.losses import policies

LOSSES = {lt.SQUARED_ERROR: "squared_error", lt.CROSS_ENTROPY: "cross_entropy", lt.HUBER: "huber"}


def targets(loss: Loss, outputs: int) -> tuple[bool, int]:
    """Whether a loss's targets are labels, and values of a sample's."""
    if loss.kind == lt.POLICY:
        return policies.targets(loss, outputs)
    return (True, 1) if loss.kind in lt.LABELLED else (False, outputs)


def has_ratio(loss: Loss) -> bool:
    """Whether a loss takes log-probabilities of when actions were drawn."""
    return loss.kind == lt.POLICY and policies.has_ratio(loss)


def forward(
    recording: Recording, network: Layout, data: TaskData, run: ActivationSet, loss: Batched, derivative: bool,
    factor: int, adds: bool,
) -> None:  # fmt: skip
    """Losses, times what is at the address `factor`, or added to those there; with `derivative` the last delta."""
    dz = run.deltas[-1] if derivative else NONE
    _job(recording, network, data, "", z=run.values[-1], loss=loss, dz=dz, factor=factor, adds=adds)


def tangent(recording: Recording, network: Layout, data: TaskData, run: ActivationSet, dot: ActivationSet) -> None:
    """The tangent of the last delta."""
    members = {"z": run.values[-1], "z_dot": dot.values[-1], "dz": dot.deltas[-1]}
    assert data.loss is not None
    if data.loss.kind == lt.POLICY:
        members["slopes"] = run.deltas[-1]
    _job(recording, network, data, "_tangent", **members)


def slopes(
    recording: Recording, network: Layout, data: TaskData, run: ActivationSet, dot: ActivationSet, of: Batched,
    adds: bool,
) -> None:  # fmt: skip
    """The derivative, along the tangents of the outputs, of each sample's loss without its weight, taken off `of`."""
    tasks = recording.tasks
    dz, unused = recording.array(tasks, data.samples * network.outputs), recording.array(tasks, 1)
    _job(recording, network, replace(data, weights=NONE), "", z=run.values[-1], loss=unused, dz=dz)
    members = {"dz": dz, "z_dot": dot.values[-1], "slopes": of, "adds": adds}
    sizes = {"samples": data.samples, "outputs": network.outputs, "share": 1 / tasks}
    recording.job("sample_slopes<T>", 1, struct("SampleSlopes", **members, **sizes))


def _job(recording: Recording, network: Layout, data: TaskData, suffix: str, **members: Any) -> None:
    assert data.loss is not None
    if data.loss.kind == lt.POLICY:
        policies.record(recording, network, data, suffix == "_tangent", **members)
        return
    terms = data.samples * (1 if data.loss.kind in lt.LABELLED else network.outputs)
    arrays = {"labels": data.labels, "targets": data.targets, "weights": data.weights}
    sizes = {
        "samples": data.samples,
        "outputs": network.outputs,
        "share": 1 / terms,
        "constant": sum(data.loss.constants),
    }
    recording.job(f"{LOSSES[data.loss.kind]}{suffix}<T>", 1, struct("Loss", **arrays, **sizes, **members))
