"""The inner loop as a schedule: phi_{k+1} = phi_k - m alpha_k grad L(phi_k)."""

from __future__ import annotations

from dataclasses import dataclass

from fastmeta_kernels.cpu.layers.shared import Support
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.instruction import NONE, Code, G, Operand, at
from fastmeta_kernels.cpu.layout.network import Plan, head_of
from fastmeta_kernels.cpu.layout.places import ADDED, RATED
from fastmeta_kernels.cpu.losses import losses, prototypes
from fastmeta_kernels.cpu.program import parameters, pulls, samples
from fastmeta_kernels.cpu.program.choices import Choices
from fastmeta_kernels.cpu.program.passes import Passes
from fastmeta_kernels.cpu.program.schedule import Schedule
from fastmeta_kernels.cpu.program.vectors import Vectors


@dataclass(frozen=True)
class Adaptation:
    """What the inner loop leaves to the sweep: its passes, over what, and the passes of a body that does not move."""

    passes: Passes
    plan: Plan
    body: Passes | None


def descend(schedule: Schedule, choices: Choices, vectors: Vectors) -> Adaptation:
    """Write the inner loop, and where its vectors and sets lie into `vectors`."""
    request, support = choices.request, choices.support
    query = choices.query
    vectors.g = schedule.room(query.packed * (max(request.steps, 1) if choices.keeps_gradients else 1))
    vectors.rates = at(op.ZERO, schedule.room(query.packed)) if choices.per_parameter else NONE
    schedule.segment("support", lambda: samples.read(schedule.code, support, job.SUPPORT_X))
    found = _body(schedule, choices, vectors) if choices.head_only else _whole(schedule, choices, vectors)
    sets = request.steps if choices.keeps_sets else min(request.steps, 1)
    vectors.sets, vectors.set_size = schedule.room(found.plan.set_size * sets), found.plan.set_size
    _segments(schedule, choices, vectors, found)
    once = choices.direct and choices.kept > 0 and (choices.keeps_sets or request.steps == 1)
    if once:  # theta serves all tasks of a chunk, and so does its transpose in the first set
        schedule.run("transposes", p=vectors.theta, s=vectors.set(0))
        schedule.first_rows = len(schedule.rows)
    for k in range(request.steps):
        here = vectors.at_step(k)
        if not choices.head_only and (k == 0 or choices.keeps_sets):
            schedule.run("support", s=vectors.set(k))
        if choices.direct and (k > 0 or not once):
            schedule.run("transposes", **here)
        schedule.run("gradient", **here)
        if choices.direct:
            schedule.run("step", sign=-1, next=vectors.phi(k + 1), **here)
            continue
        schedule.run("rates", **here)
        schedule.run("descend", sign=-1, next=vectors.phi(k + 1), **here)
        schedule.run("own", p=vectors.phi(k + 1), rate_row=k + 1)
    return found


def loss(code: Code, choices: Choices, of: Plan, support: bool, tangent: bool = False) -> None:
    """The loss of a set, or the tangents of its outputs' deltas."""
    if choices.request.head:
        prototypes.emit(code)
    else:
        losses.emit(code, choices.request, of, support, tangent, choices.direct and support)


def tangents(code: Code, choices: Choices, passes: Passes, of: Plan, sweep: bool) -> None:
    """G = H u, or in the sweep G -= H u, times the rate where u is not."""
    passes.forward_tangent()
    if sweep and choices.request.each_weight:
        losses.emit_slopes(code, choices.request, of)
    loss(code, choices, of, sweep, tangent=True)
    passes.backward_tangent((ADDED | (RATED if choices.direct else 0)) if sweep else 0)


def move(code: Code, choices: Choices, vectors: Vectors, base: Operand, source: Operand, target: Operand) -> None:
    """target = base + sign * m * alpha * source."""
    parameters.descend(
        code, choices.query, choices.request.rates[1], choices.adapted, base, source, target, vectors.rates
    )


def _segments(schedule: Schedule, choices: Choices, vectors: Vectors, found: Adaptation) -> None:
    code, passes = schedule.code, found.passes

    def gradient() -> None:
        passes.forward()
        loss(code, choices, found.plan, True)
        passes.backward(None if choices.direct else 0, transpose=not choices.direct)
        if choices.request.pulled:
            pulls.pull(code, choices.adapted, at(G), at(op.P), at(op.ZERO, vectors.theta))

    def rates() -> None:
        if choices.per_parameter:
            blocks, size = choices.query.blocks, choices.parameters
            parameters.move(code, blocks, job.RATES, vectors.rates, parameters.LOAD, size)

    schedule.segment("transposes", passes.transpose)
    schedule.segment("gradient", gradient)
    schedule.segment("step", lambda: passes.step(op.NEXT))
    schedule.segment("rates", rates)
    schedule.segment("descend", lambda: move(code, choices, vectors, at(op.P), at(G), at(op.NEXT)))


def _whole(schedule: Schedule, choices: Choices, vectors: Vectors) -> Adaptation:
    support, query = choices.support, choices.query
    size = support.samples * query.samples
    vectors.products = {l: (at(op.ZERO, schedule.room(size)), at(op.ZERO, schedule.room(size))) for l in choices.shared}
    kinds = {l: Support(query.layers[l], *products) for l, products in vectors.products.items()}
    return Adaptation(Passes(schedule.code, support, kinds=kinds), support, None)


def _body(schedule: Schedule, choices: Choices, vectors: Vectors) -> Adaptation:
    """Only the head adapts: the body's features are computed once, each step's set is the head's."""
    support = choices.support
    vectors.features = schedule.room(support.set_size)
    body = Passes(schedule.code, support, 0, len(support.layers) - 1)
    head = head_of(support, schedule.line)
    schedule.segment("body", body.forward)
    schedule.run("support", s=vectors.features)
    schedule.run("body", p=vectors.theta, s=vectors.features)
    return Adaptation(Passes(schedule.code, head, features=op.X), head, body)
