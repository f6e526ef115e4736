"""The persistent path: which networks take it, and its single launch; see persistent_mlp.cuh.

A network takes it if it is an MLP of at most 8 linear layers, with biases, at most one activation between two and none
behind the last, whose parameters (three copies) and samples fit into `MOST_SHARED` bytes of shared memory: two blocks a
multiprocessor. A request takes it if no query loss but the last counts and no parameter is a step's own.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Loss
from fastmeta_kernels.cuda.layout.network import Layout, TaskData
from fastmeta_kernels.cuda.layout.recording import Batched, Recording, struct
from fastmeta_kernels.request import Request

LOSSES = {Loss(lt.SQUARED_ERROR), Loss(lt.CROSS_ENTROPY)}
MOST_LAYERS, MOST_SHARED, MOST_CHUNKS = 8, 96 * 1024, 4096
TILE = 4


class Mlp(NamedTuple):
    """Widths of the positions, and the activation behind each linear layer (0 for none)."""

    widths: tuple[int, ...]
    activations: tuple[int, ...]
    theta_at: tuple[int, ...]


def mlp(network: Layout) -> Mlp | None:
    """The network as an MLP; None where it is none."""
    widths, activations, places = [network.layers[0].inputs], [], []
    for layer in network.layers:
        if layer.kind == lt.LINEAR and layer.bias >= 0:
            widths.append(layer.outputs)
            activations.append(lt.RELU if layer.relu else 0)
            places.append(layer.weight)
        elif layer.kind in (lt.RELU, lt.TANH, lt.SOFTPLUS) and activations and not activations[-1]:
            activations[-1] = layer.kind
        else:
            return None
    fits = len(activations) <= MOST_LAYERS and not activations[-1]  # a loss's delta is that of a linear layer
    return Mlp(tuple(widths), tuple(activations), tuple(places)) if fits else None


def plan(network: Layout, samples: int, itemsize: int) -> tuple[Any, int, int] | None:
    """A `struct Mlp` with sizes and places, a block's bytes of shared memory, its threads; None if it does not fit."""
    shape = mlp(network)
    if shape is None:
        return None
    widths, layers = shape.widths, len(shape.activations)
    stride = TILE * (-(-samples // TILE) | 1)
    sizes = [(i + 1) * (o | 1) for i, o in pairwise(widths)]
    weights_at = [0, *accumulate(sizes)]
    padded = TILE * -(-weights_at[-1] // TILE)
    tiles = max(-(-width // TILE) for width in widths) * -(-samples // TILE)
    threads = max(64, min(256, 1 << (tiles - 1).bit_length()))

    used = 0

    def take(count: int) -> int:
        nonlocal used
        start, used = used, used + TILE * -(-count // TILE)
        return start

    copies = {name: take(padded) for name in ("phi_at", "v_at", "direction_at")}
    kinds = ("values_at", "deltas_at", "tangents_at", "delta_tangents_at")
    places = {name: [take((width + 1) * stride) for width in widths] for name in kinds}
    losses = take(max(stride, threads))
    if used * itemsize > MOST_SHARED:
        return None
    arrays = {"widths": widths, "activations": shape.activations, "theta_at": shape.theta_at, **places}
    arrays["weights_at"] = tuple(weights_at[:-1])
    job = struct("Mlp", layers=layers, padded=padded, sample_stride=stride, losses_at=losses, **copies)
    for name, values in arrays.items():
        job[name][: len(values)] = values
    return job, used * itemsize, threads


def record(
    recording: Recording,
    network: Layout,
    request: Request,
    theta: Batched,
    support: TaskData,
    query: TaskData,
    arrays: dict[str, Any],
) -> tuple[Batched, Batched, int, int] | None:
    """Record its launch: the chunks' sums of gradients and of d Q / d alpha, how many, and a row's size in the latter.

    None, and nothing recorded, where the request does not take this path.
    """
    asks = request.each_task or request.each_weight or request.pulled
    if asks or request.query_loss_steps or request.step_parameters or not {support.loss, query.loss} <= LOSSES:
        return None
    found = plan(network, max(support.samples, query.samples), request.dtype.itemsize)
    if found is None:
        return None
    job, shared, threads = found
    chunks, (rows, rates), parameters = min(request.tasks, MOST_CHUNKS), request.rates, network.parameters
    row = 1 if rates == 1 else parameters
    steps = recording.take(chunks * request.steps * int(job["padded"]))
    gradient, along = (recording.array(chunks, count) for count in (parameters, rows * row))
    start, stop = request.adapted
    sizes = {"tasks": request.tasks, "chunks": chunks, "parameters": parameters, "steps": request.steps}
    sizes |= {"exact": request.order == 2, "samples": support.samples, "query_samples": query.samples}
    sizes |= {"outputs": network.outputs, "rate_rows": rows, "rate_count": rates, "start": start, "stop": stop}
    arrays = arrays | {"theta": theta, "steps_of_block": steps}
    arrays |= {"gradient": gradient.address, "rates_gradient": along.address}
    for prefix, data in (("", support), ("query_", query)):
        members = {"x": data.x, "targets": data.targets, "weights": data.weights, "labels": data.labels}
        arrays |= {prefix + name: array for name, array in members.items()}
    for name, value in (sizes | arrays).items():
        job[name] = value
    recording.launch("mlp_meta_gradient", chunks, job, threads=threads, shared=shared)
    return gradient, along, chunks, row
