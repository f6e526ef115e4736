"""A program: what a job does with one task, as instructions and the schedule in which they run.

The schedule is the control flow of engine and paper: inner steps, query, and the sweep back through the steps.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layers.shared import Query
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout import prototypes as prototype_layout
from fastmeta_kernels.cpu.layout.instruction import SERIAL, G, at
from fastmeta_kernels.cpu.layout.lanes import scalar_bytes
from fastmeta_kernels.cpu.layout.places import ADDED
from fastmeta_kernels.cpu.losses import policies
from fastmeta_kernels.cpu.program import inner_loop, parameters, samples
from fastmeta_kernels.cpu.program.choices import Choices
from fastmeta_kernels.cpu.program.inner_loop import Adaptation
from fastmeta_kernels.cpu.program.passes import Passes
from fastmeta_kernels.cpu.program.schedule import Program, Schedule
from fastmeta_kernels.cpu.program.sweep import sweep_back
from fastmeta_kernels.cpu.program.vectors import Vectors
from fastmeta_kernels.request import Request


@lru_cache(maxsize=256)
def program(request: Request) -> Program:
    """The program of a request."""
    choices = Choices(request)
    support, query = choices.support, choices.query
    kind = request.kind
    scalar = scalar_bytes(request)
    schedule, lanes = Schedule(scalar), scalar // request.dtype.itemsize
    schedule.size = query.zeros + schedule.up(max(support.sums, query.sums))
    vectors = Vectors(choices, schedule.room(query.packed * (choices.kept + 1)))
    total = schedule.room(query.packed if kind == "meta_gradient" and not choices.in_lanes else 0)
    _load(schedule, choices, vectors, total)
    found = inner_loop.descend(schedule, choices, vectors) if kind in ("adapt", "meta_gradient") else None
    head = None
    if kind == "adapt":
        _store(schedule, choices, vectors.phi(request.steps))
    else:
        head = _query(schedule, choices, vectors, found, total)
    work = query.packed * request.query.samples * lanes
    panel = max(support.panel, query.panel)
    room = (schedule.size + panel) * lanes
    rows = schedule.first_rows, schedule.last_rows
    kept = vectors.theta, vectors.query + query.set_size
    code, steps = schedule.code.array(), schedule.array()
    return Program(code, steps, *rows, room, panel, query, work, head, kept, schedule.kept_rows)


def _load(schedule: Schedule, choices: Choices, vectors: Vectors, total: int) -> None:
    """theta, and the parameters that are the first step's own; the sum of gradients begins at 0."""
    code, query = schedule.code, choices.query
    schedule.segment("zeros", lambda: parameters.clear(code, query, at(op.P)))
    schedule.segment("theta", lambda: parameters.move(code, query.blocks, job.THETA, at(op.P), parameters.LOAD))
    zeros = (total, vectors.theta) if choices.request.kind == "meta_gradient" else (vectors.theta,)
    for vector in () if choices.in_lanes else zeros:
        schedule.run("zeros", p=vector)
    schedule.run("theta", p=vectors.theta)
    schedule.first_rows = len(schedule.rows)
    schedule.segment("own", lambda: _move_own(schedule, choices, job.STEP_PARAMETERS, op.P, parameters.LOAD))
    schedule.run("own", p=vectors.theta)


def _query(
    schedule: Schedule, choices: Choices, vectors: Vectors, found: Adaptation | None, total: int
) -> NDArray[np.void] | None:
    """What is asked of the query set at phi_S; the prototype head, where there is one."""
    request, query = choices.request, choices.query
    code = schedule.code
    kind, phi = request.kind, vectors.phi(request.steps)
    s, v = schedule.room(query.set_size), schedule.room(query.packed)
    vectors.query = s
    kinds = {l: Query(choices.support.layers[l], *products) for l, products in vectors.products.items()}
    passes, head = Passes(code, query, kinds=kinds), _head(schedule, choices, s)
    schedule.segment("query", lambda: samples.read(code, query, job.QUERY_X))
    schedule.run("query", s=s)
    if kind == "predict":
        schedule.segment("outputs", passes.forward, lambda: _outputs(schedule, choices))
        schedule.run("outputs", p=phi, s=s)
        return head
    if kind == "fisher":
        _fisher(schedule, choices, passes, phi, s, v)
        return head
    schedule.segment("query loss", passes.forward, lambda: inner_loop.loss(code, choices, query, False))
    here = {"p": phi, "s": s, **vectors.other_set()}
    schedule.run("query loss", **here, inner_step=request.steps if request.query_loss_steps else 0)
    if kind != "loss":
        schedule.segment("query gradient", lambda: passes.backward(None if kind == "hvp" else 0))
        schedule.run("query gradient", **here, g=v)
    if kind == "hvp":
        u, r = _direction(schedule, choices)
        schedule.segment("query tangents", lambda: inner_loop.tangents(code, choices, passes, query, False))
        schedule.run("query tangents", p=phi, s=s, u=u, r=r, g=v)
    if found:
        _meta_gradient(schedule, choices, vectors, found, passes, v, s, total)
    elif kind != "loss":
        _store(schedule, choices, v)
    return head


def _direction(schedule: Schedule, choices: Choices) -> tuple[int, int]:
    """Where a direction lies, which is loaded, and a set for the tangents along it."""
    query = choices.query
    u, r = schedule.room(query.packed), schedule.room(query.set_size)
    schedule.kept_rows = len(schedule.rows)
    direction = query.blocks, job.DIRECTION, at(op.U), parameters.LOAD
    schedule.segment("direction", lambda: parameters.move(schedule.code, *direction))
    schedule.run("direction", u=u)
    return u, r


def _fisher(schedule: Schedule, choices: Choices, passes: Passes, phi: int, s: int, g: int) -> None:
    """G = J^T M J u: forward and tangents, the metric in place of the loss, and back."""
    schedule.segment("query values", passes.forward)
    schedule.run("query values", p=phi, s=s)
    u, r = _direction(schedule, choices)
    metric = partial(policies.emit_metric, schedule.code, choices.request, choices.query)
    schedule.segment("fisher", passes.forward_tangent, metric, passes.backward)
    schedule.run("fisher", p=phi, s=s, u=u, r=r, g=g)
    _store(schedule, choices, g)


def _meta_gradient(
    schedule: Schedule,
    choices: Choices,
    vectors: Vectors,
    found: Adaptation,
    passes: Passes,
    v: int,
    s: int,
    total: int,
) -> None:
    """The sweep back, and v_0 to the sum over a chunk's tasks, which the last of them stores; a block of lanes does."""
    code, query = schedule.code, choices.query
    schedule.segment("own gradient", lambda: _move_own(schedule, choices, job.STEP_GRADIENTS, G, parameters.ADD))
    schedule.segment("own zeros", lambda: _move_own(schedule, choices, job.STEP_PARAMETERS, G, parameters.LOAD))
    schedule.segment("added", lambda: passes.backward(ADDED))
    sweep_back(schedule, choices, vectors, found, v, s)
    if choices.in_lanes:
        to = job.GRADIENTS, at(G), parameters.ADD
        schedule.segment("sum", lambda: parameters.move(code, query.blocks, *to))
        schedule.run("sum", g=v)
        return
    schedule.segment("sum", lambda: parameters.add(code, query, at(op.P), at(G)))
    schedule.run("sum", p=total, g=v)
    before = len(schedule.rows)
    _store(schedule, choices, total, job.GRADIENTS)
    schedule.last_rows = len(schedule.rows) - before


def _head(schedule: Schedule, choices: Choices, s: int) -> NDArray[np.void] | None:
    """The prototype head over the outputs of set s."""
    request, query = choices.request, choices.query
    if request.head is None:
        return None
    n, m = request.inner.samples, request.query.samples
    layout = prototype_layout.layout(request.head, n, m - n, query.o, request.dtype, schedule.size)
    schedule.size = schedule.up(layout.size)
    return prototype_layout.place_over(layout.head, s + query.outputs, s + query.output_deltas)


def _outputs(schedule: Schedule, choices: Choices) -> None:
    places = {"stream": job.RESULTS, "outputs": at(op.S, choices.query.outputs)}
    schedule.code.add(op.OUTPUT, SERIAL, **places, size=choices.request.query.samples * choices.query.o)


def _store(schedule: Schedule, choices: Choices, vector: int, to: int = job.RESULTS) -> None:
    blocks = choices.query.blocks
    schedule.segment("store", lambda: parameters.move(schedule.code, blocks, to, at(G), parameters.STORE))
    schedule.run("store", g=vector)


def _move_own(schedule: Schedule, choices: Choices, stream: int, register: int, direction: int) -> None:
    """Between the rows of a stream and the parameters that are each step's own."""
    parameters.move(schedule.code, choices.own, stream, at(register), direction, choices.own_size)
