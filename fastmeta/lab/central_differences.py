"""Central differences of the query loss after adaptation, against the meta-gradient. Always in float64.

Ridders' extrapolation along a random direction and two coordinates of every parameter array, and of inner_lr.
Where a ReLU or a max-pool changes side between two evaluations the difference means nothing: the step is
narrowed until none does, or the direction skipped, and both are counted.

One file of more than 200 lines, because the check and its report are read together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array, Backend, InnerLoop, TaskSet

Objective = Callable[[Array, Array], tuple[float, int]]  # theta, rates -> query loss, kink pattern

WIDEST, NARROWEST, LEVELS, COORDINATES = 0.1, 1e-6, 10, 2
EVALUATIONS = 13  # of the objective for a direction: 8 to 14 in the networks of `fastmeta check`
_TINY = float(np.finfo(np.float64).tiny)  # the cross-entropy of one class is 0 everywhere


@dataclass(frozen=True)
class BlockCheck:
    """One parameter array, or inner_lr: its worst relative error, NaN where every direction was skipped."""

    name: str
    size: int
    error: float
    directions: int  # that were compared
    narrowed: int  # directions whose step was narrowed because a kink was crossed
    skipped: int  # directions given up because even the narrowest step crossed one


@dataclass(frozen=True)
class GradientReport:
    """What `check_meta_gradient` found; `print(report)` is a table."""

    blocks: tuple[BlockCheck, ...]
    tolerance: float

    @property
    def worst(self) -> BlockCheck:
        """The block with the largest error."""
        return max(self.blocks, key=lambda block: np.nan_to_num(block.error, nan=-1.0, posinf=np.inf))

    @property
    def kinks(self) -> int:
        """Directions that met a kink."""
        return sum(block.narrowed + block.skipped for block in self.blocks)

    def __str__(self) -> str:
        width = max(len(block.name) for block in self.blocks)
        lines = [f"{'array':{width}}     size   error  compared  narrowed  skipped"]
        for b in self.blocks:
            error = "      -" if np.isnan(b.error) else f"{b.error:7.1e}"
            lines.append(f"{b.name:{width}} {b.size:8d} {error} {b.directions:9d} {b.narrowed:9d} {b.skipped:8d}")
        return "\n".join(lines)


@quiet
def check_meta_gradient(
    net: Network,
    theta: Array,
    batch: Batch,
    inner_lr: Any = 0.01,
    inner_steps: int = 1,
    order: int = 2,
    adapt: str = "all",
    device: str = "cpu",
    tolerance: float = 1e-7,
    seed: int = 0,
    *,
    loss: Loss | None = None,
) -> GradientReport:
    """Compare `meta_gradient` in float64 with central differences, block by block.

    order=1 is compared with the differences that hold every inner gradient fixed. Returns a report that
    counts kinks; raises AssertionError, naming the block, where an error exceeds `tolerance`.
    """
    theta = inputs.parameters(net, inputs.array("theta", theta).astype(np.float64), device=device)
    support, query = batch_sets(net, batch, np.float64, loss=loss)
    inner = inputs.inner_loop(net, inner_lr, inner_steps, adapt, np.float64)
    return check_sets(net, theta, support, query, inner, order, devices.backend(device), tolerance, seed)


def check_sets(
    net: Network,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop,
    order: int,
    backend: Backend,
    tolerance: float,
    seed: int,
) -> GradientReport:
    """The same of sets as kernels take them, theta (P,) and arrays of float64."""
    result = backend.meta_gradient(net.table, theta, support, query, inner, order)
    if not np.isfinite(result.gradient).all():
        raise checks.DivergenceError("the meta-gradient is not finite. Halve inner_lr or scale the data to about 1.")
    objective = _objective(backend, net.table, theta, support, query, inner, order)
    scale = 1e-3 * np.linalg.norm(result.gradient) / np.sqrt(theta.size) + 1e-5 * abs(objective(theta, inner.rates)[0])
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    blocks = check_arrays(net, theta, lambda at: objective(at, inner.rates), result.gradient, scale, rng)
    if inner.steps:

        def along_rates(step: Array) -> tuple[float, int]:
            return objective(theta, inner.rates + step.reshape(inner.rates.shape))

        blocks.append(_check_block("inner_lr", along_rates, result.rates_gradient.ravel(), scale, rng))
    report = GradientReport(tuple(blocks), tolerance)
    if report.worst.error > tolerance:
        raise AssertionError(
            f"the meta-gradient disagrees with central differences in {report.worst.name}: relative error "
            f"{report.worst.error:.1e} exceeds tolerance={tolerance}.\n{report}"
        )
    return report


@quiet
def expected_seconds(
    net: Network, theta: Array, batch: Batch, inner_lr: Any, inner_steps: int, order: int, device: str
) -> float:
    """About how long `check_meta_gradient` takes, from a few evaluations of its objective, at theta (P,) float64.

    The kernels that it needs are loaded before that, and compiled where they were not yet.
    """
    support, query = batch_sets(net, batch, np.float64)
    inner = inputs.inner_loop(net, inner_lr, inner_steps, "all", np.float64)
    backend = devices.backend(device)
    backend.meta_gradient(net.table, theta, support, query, inner, order)
    objective = _objective(backend, net.table, theta, support, query, inner, order)
    begin, few = time.perf_counter(), 3
    for _ in range(few):
        objective(theta, inner.rates)
    directions = (1 + COORDINATES) * (len(net.parameter_shapes) + 1)
    return directions * EVALUATIONS * (time.perf_counter() - begin) / few


def check_arrays(
    net: Network,
    theta: Array,
    objective: Callable[[Array], tuple[float, int]],
    gradient: Array,
    scale: float,
    rng: np.random.Generator,
) -> list[BlockCheck]:
    """Each parameter array's gradient (P,) against differences of an objective of theta (P,): value, kink pattern."""
    blocks = []
    edges = lt.blocks(net.table)
    for name, start, stop in zip(net.parameter_shapes, edges, edges[1:], strict=False):

        def along(step: Array, start: int = int(start), stop: int = int(stop)) -> tuple[float, int]:
            shifted = theta.copy()
            shifted[start:stop] += step
            return objective(shifted)

        blocks.append(_check_block(name, along, gradient[start:stop], scale, rng))
    return blocks


def _objective(
    backend: Backend,
    table: lt.Table,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop,
    order: int,
) -> Objective:
    """Mean query loss after the inner loop; order 1 subtracts the inner gradients of the unshifted theta."""
    mask = np.zeros(theta.size)
    mask[slice(*inner.adapted)] = 1.0
    sizes = np.diff(lt.blocks(table))
    fixed: list[Array] = []

    def run(theta: Array, rates: Array) -> tuple[float, int]:
        phi = np.tile(theta, (len(support.x), 1))
        patterns = []
        for k in range(inner.steps):
            if len(fixed) > k:
                gradient = fixed[k]
            else:
                gradient = backend.gradient(table, phi, support)[1]
                patterns.append(kink_pattern(table, phi, support.x, support))
            rate = rates[k % len(rates)]
            phi = phi - mask * (np.repeat(rate, sizes) if len(rate) == len(sizes) else rate) * gradient
            gradients.append(gradient)
        patterns.append(kink_pattern(table, phi, query.x, query))
        return float(backend.loss(table, phi, query).mean()), hash(tuple(patterns))

    gradients: list[Array] = []
    run(theta, inner.rates)
    fixed += gradients if order == 1 else []
    return run


def kink_pattern(table: lt.Table, phi: Array, x: Array, data: TaskSet | None = None) -> bytes:
    """Which side every ReLU is on, which pixel every max-pool takes; and on which piece of its loss a set is."""
    from fastmeta_kernels.reference import losses
    from fastmeta_kernels.reference import network as reference_network
    from fastmeta_kernels.reference.layers.max_pool import winners

    kinked = [(i, int(row[lt.KIND]), int(row[lt.KERNEL])) for i, row in enumerate(table)]
    kinked = [(i, kind, size) for i, kind, size in kinked if kind in (lt.RELU, lt.MAX_POOL)]
    pieces = data if data is not None and losses.has_sides(data) else None
    if not kinked and pieces is None:
        return b""
    xs = reference_network.forward(table, phi, x)
    sides = [xs[i] > 0 if kind == lt.RELU else winners(xs[i], size) for i, kind, size in kinked]
    sides += [] if pieces is None else [losses.sides(xs[-1], pieces)]
    return b"".join(side.tobytes() for side in sides)


def _check_block(
    name: str,
    along: Callable[[Array], tuple[float, int]],
    gradient: Array,
    scale: float,
    rng: np.random.Generator,
) -> BlockCheck:
    directions = [rng.standard_normal(gradient.size)]
    for index in rng.permutation(gradient.size)[:COORDINATES]:
        directions.append(np.eye(1, gradient.size, index)[0])
    typical = np.linalg.norm(gradient) / np.sqrt(gradient.size)
    errors, narrowed, skipped = [], 0, 0
    for direction in directions:
        direction = direction / np.linalg.norm(direction)
        width = _smooth_width(along, direction)
        if width is None:
            skipped += 1
            continue
        narrowed += width < WIDEST
        difference = ridders(along, direction, width)
        exact = float(gradient @ direction)
        errors.append(abs(difference - exact) / max(abs(exact), float(typical), scale, _TINY))
    return BlockCheck(name, gradient.size, max(errors, default=np.nan), len(errors), narrowed, skipped)


def _smooth_width(along: Callable[[Array], tuple[float, int]], direction: Array) -> float | None:
    """Widest step whose two ends have the kink pattern of the middle; None where no step has."""
    middle = along(0.0 * direction)[1]
    width = WIDEST
    while width >= NARROWEST:
        if along(width * direction)[1] == middle == along(-width * direction)[1]:
            return width
        width /= 4.0
    return None


def ridders(along: Callable[[Array], tuple[float, int]], direction: Array, width: float) -> float:
    """Derivative at 0: central differences at width / 2^i, extrapolated; the one of least error."""
    best, least = np.nan, np.inf
    row: list[float] = []
    for level in range(LEVELS):
        step = width / 2**level
        above, below = along(step * direction)[0], along(-step * direction)[0]
        previous, row = row, [(above - below) / (2 * step)]
        for j, coarse in enumerate(previous):
            row.append(row[j] + (row[j] - coarse) / (4 ** (j + 1) - 1))
            error = max(abs(row[j + 1] - row[j]), abs(row[j + 1] - coarse))
            if error < least:
                best, least = row[j + 1], error
        if least <= max(1e-11 * abs(best), 1e-15 * abs(above) / step):  # converged, or down to rounding
            break
    return best
